"""Image-duplicate detection: decode, fingerprint, index, and verify by MBR-SIFT.

The names below load their modules on first use, so that `import imagetools` is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagetools.errors import ImageError, ImageToolsError
    from imagetools.features.extract import extract
    from imagetools.features.read import read_features
    from imagetools.fingerprint.encoder import Encoder
    from imagetools.folder import find_images
    from imagetools.image_root import ImageRoot
    from imagetools.index.index import Index
    from imagetools.matching.config import MatcherConfig
    from imagetools.matching.verify import Verification, verify

__all__ = [
    "Encoder",
    "ImageError",
    "ImageRoot",
    "ImageToolsError",
    "Index",
    "MatcherConfig",
    "Verification",
    "extract",
    "find_images",
    "read_features",
    "verify",
]

_MODULES = {
    "Encoder": "imagetools.fingerprint.encoder",
    "ImageError": "imagetools.errors",
    "ImageRoot": "imagetools.image_root",
    "ImageToolsError": "imagetools.errors",
    "Index": "imagetools.index.index",
    "MatcherConfig": "imagetools.matching.config",
    "Verification": "imagetools.matching.verify",
    "extract": "imagetools.features.extract",
    "find_images": "imagetools.folder",
    "read_features": "imagetools.features.read",
    "verify": "imagetools.matching.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
