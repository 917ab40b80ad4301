"""What an image's file says of the quality of its picture."""

from PIL import Image

from imagetools.errors import ImageError
from imagetools.features.cache import FeatureCache
from imagetools.formats import open_image
from imagetools.grouping.quality import measure
from imagetools.grouping.records import ImageKey
from imagetools.paths import shown
from schemas.group_records import SeenFile
from streams.grouping.announced_files import AnnouncedFiles


def look_at(files: AnnouncedFiles, cache: FeatureCache, image: ImageKey) -> SeenFile | None:
    """Return size, format and quality; None where the file cannot be read, or has other bytes now.

    ImageRootUnavailable.
    """
    try:
        data = files.read(image)
        if data is None:
            return None
        features = cache.get(files.images, image.path)
        header = open_image(data, shown(image.path))
        quality = measure(data, shown(image.path), Image.fromarray(features.close), features.colours, header)
        # features are those of the file as it is now
        if not files.unchanged(image):
            return None
    except ImageError:
        return None
    width, height = features.original
    return SeenFile(
        width,
        height,
        len(data),
        header.format or "",
        quality.sharpness,
        quality.fineness,
        quality.step,
        quality.earlier,
        quality.colour,
    )
