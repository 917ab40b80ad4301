"""What the encoder and the reencoder share: the encoder that the settings name, and parts as records hold them."""

from platformdirs import user_cache_path

from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import Described, Encoder
from schemas.records import Part
from streams.config import Config


def load_encoder(config: Config) -> Encoder:
    """Load the encoder that the settings name. ModelError."""
    return Encoder.load(
        EncoderConfig(
            config.models_name,
            config.models_dir,
            engine=config.engine,
            threads=config.encoder_threads,
            kept=user_cache_path("imagetools"),
        )
    )


def to_parts(described: Described) -> tuple[Part, ...]:
    """Convert the pictures inside an image to the record's parts."""
    return tuple(Part(box.left, box.top, box.right, box.bottom, row) for box, row in described.parts)
