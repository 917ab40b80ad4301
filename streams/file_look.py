"""What an image's file says of the quality of its picture."""

from PIL import Image

from imagetools.errors import ImageError
from imagetools.features.cache import FeatureCache
from imagetools.formats import open_image
from imagetools.grouping.quality import quantization_step, sharpness
from imagetools.image_root import ImageRoot
from imagetools.paths import shown
from schemas.group_records import SeenFile


def look_at(images: ImageRoot, cache: FeatureCache, path: str) -> SeenFile | None:
    """Return size, format, compression and sharpness; None where the file cannot be read. ImageRootUnavailable."""
    try:
        data = images.read(path)
        features = cache.get(images, path)
        header = open_image(data, shown(path))
    except ImageError:
        return None
    width, height = features.original
    return SeenFile(
        width,
        height,
        len(data),
        header.format or "",
        sharpness(Image.fromarray(features.close)),
        quantization_step(header),
    )
