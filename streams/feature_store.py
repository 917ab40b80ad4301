"""The store of features that the encoders and the matchers of one machine share."""

from imagetools.features.store import FeatureStore
from streams.config import Config


def open_store(config: Config) -> FeatureStore | None:
    """Open the store that the settings name; None where they name none.

    ConfigError where FEATURES_DIR cannot be used.
    """
    if config.features_dir is None:
        return None
    return FeatureStore(config.features_dir, config.features_mb * 10**6, config.matcher)
