"""Opens one image file as often as it is needed."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from PIL import Image

from imagetools.decode import DEFAULT_CONFIG, Box, DecodeConfig, decode, decode_frames
from imagetools.errors import BrokenImage

MAX_KEPT_BYTES: Final = 128 * 2**20
"""Of the frames that openers keep: those of seven animations of two megapixels."""


class KeptFrames:
    """The frames that openers decoded last, so that comparing one after the other decodes them once. Thread-safe."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        """Keep nothing yet."""
        self._max_bytes = max_bytes
        # the last one used comes last
        self._kept: OrderedDict[_Key, Sequence[Image.Image]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of the frames that are kept."""
        return sum(_nbytes(frames) for frames in self._kept.values())

    def get(self, opener: "FileOpener", box: Box, *, first: bool = False) -> Sequence[Image.Image] | None:
        """Return what an opener decoded to this box, where it is kept: all frames, or the first one alone."""
        with self._lock:
            found = self._kept.get((opener, box, first))
            if found is not None:
                self._kept.move_to_end((opener, box, first))
            return found

    def put(self, opener: "FileOpener", box: Box, frames: Sequence[Image.Image], *, first: bool = False) -> None:
        """Keep the frames, and drop those unused for longest where there is no room."""
        with self._lock:
            self._kept[opener, box, first] = frames
            while self.nbytes > self._max_bytes:
                self._kept.popitem(last=False)


def _nbytes(frames: Sequence[Image.Image]) -> int:
    return sum(frame.width * frame.height * len(frame.getbands()) for frame in frames)


_Key = tuple["FileOpener", Box, bool]


class FileOpener:
    """Opens an image file: its picture, all frames that stand for it, or one of them. Thread-safe if `read` is.

    Each call raises what reading and decoding raise.
    """

    def __init__(
        self,
        read: Callable[[], bytes],
        name: str,
        config: DecodeConfig = DEFAULT_CONFIG,
        kept: KeptFrames | None = None,
    ) -> None:
        """Open nothing yet.

        read  returns the bytes of the file
        name  of the image in errors
        kept  keeps what `frame` decodes; shared by openers, it bounds their memory together
        """
        self._read = read
        self._name = name
        self._config = config
        self._kept = kept or KeptFrames()
        self._decoding = threading.Lock()

    def __call__(self, box: Box | None = None) -> Image.Image:
        """Return the picture, or the first frame, as `decode` does; one of a box is shared, and not to be changed."""
        if box is None:
            return decode(self._read(), self._name, config=self._config)
        with self._decoding:
            found = self._kept.get(self, box, first=True)
            if found is None:
                found = (decode(self._read(), self._name, box=box, config=self._config),)
                self._kept.put(self, box, found, first=True)
        return found[0]

    def frames(self, box: Box | None = None) -> tuple[Image.Image, ...]:
        """Return the frames that stand for the image, as `decode_frames` does."""
        return decode_frames(self._read(), self._name, box=box, config=self._config)

    def frame(self, number: int) -> Callable[[Box], Image.Image]:
        """Return what opens one of `frames`; the pictures are shared, and not to be changed.

        Later frames are decoded once for a box, as long as they are kept: each takes all frames before it. BrokenImage
        where the file has changed and no longer has the frame.
        """

        def open_frame(box: Box) -> Image.Image:
            # threads that want the same frames wait for the first one to decode them
            with self._decoding:
                found = self._kept.get(self, box)
                if found is None:
                    found = self.frames(box)
                    self._kept.put(self, box, found)
            if number >= len(found):
                raise BrokenImage(self._name, "has lost frames since it was first opened")
            return found[number]

        return open_frame if number else self
