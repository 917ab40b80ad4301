"""The features of a stage: the store that the stages of one machine share, and what there is to watch."""

from imagetools.features.cache import FeatureCache
from imagetools.features.store import FeatureStore
from streams.config import Config
from streams.stage import Figure


def open_store(config: Config) -> FeatureStore | None:
    """Open the store that the settings name; None where they name none.

    ConfigError where FEATURES_DIR cannot be used.
    """
    if config.features_dir is None:
        return None
    return FeatureStore(config.features_dir, config.features_mb * 10**6, config.matcher)


def cache_figures(cache: FeatureCache) -> tuple[Figure, ...]:
    """Return how often features were known, and what those in memory take."""
    text = "Features that were needed, by where they came from."
    return (
        *(
            Figure("features", text, count, counts=True, labels=(("source", source),))
            for source, count in cache.found.items()
        ),
        Figure("features_memory_bytes", "Features kept in memory.", cache.nbytes),
    )
