"""Real photos for the matcher's tests: the package's own samples, and more from ../shared where that is."""

from functools import cache
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "cli" / "samples").glob("*.jpg"))
MORE = sorted((ROOT.parent / "shared" / "photos" / "various").glob("*.jpg"))[::200]


@cache
def photo(path: Path) -> Image.Image:
    """The photo, RGB."""
    with Image.open(path) as image:
        return image.convert("RGB")


def photos(count: int) -> list[Image.Image]:
    """`count` samples, spread over the folder."""
    return [photo(path) for path in SAMPLES[:: max(1, len(SAMPLES) // count)][:count]]
