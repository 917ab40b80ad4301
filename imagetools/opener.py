"""Opens one image file as often as it is needed."""

from collections.abc import Callable

from PIL import Image

from imagetools.decode import DEFAULT_CONFIG, Box, DecodeConfig, decode, decode_frames
from imagetools.errors import BrokenImage


class FileOpener:
    """Opens an image file: its picture, all frames that stand for it, or one of them. Thread-safe if `read` is.

    Each call raises what reading and decoding raise.
    """

    def __init__(self, read: Callable[[], bytes], name: str, config: DecodeConfig = DEFAULT_CONFIG) -> None:
        """Open nothing yet.

        read  returns the bytes of the file
        name  of the image in errors
        """
        self._read = read
        self._name = name
        self._config = config

    def __call__(self, box: Box | None = None) -> Image.Image:
        """Return the picture, or the first frame, as `decode` does."""
        return decode(self._read(), self._name, box=box, config=self._config)

    def frames(self, box: Box | None = None) -> tuple[Image.Image, ...]:
        """Return the frames that stand for the image, as `decode_frames` does."""
        return decode_frames(self._read(), self._name, box=box, config=self._config)

    def frame(self, number: int) -> Callable[[Box], Image.Image]:
        """Return what opens one of `frames`. BrokenImage where the file has changed and no longer has it."""

        def open_frame(box: Box) -> Image.Image:
            found = self.frames(box)
            if number >= len(found):
                raise BrokenImage(self._name, "has lost frames since it was first opened")
            return found[number]

        return open_frame if number else self
