"""Which frames of an animation, or pages of a document, stand for it: the first, a middle one, and a late one.

Frames are chosen by when they are shown, so that a copy in another format, with equal frames joined or every second one
dropped, is compared by the same frames.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

from PIL import ImageFile

_FORMATS: Final = frozenset({"GIF", "WEBP", "PNG", "AVIF", "TIFF"})
"""Formats whose further pictures are frames or pages. Those of a JPEG (MPO) and of HEIF are previews, depth, bursts."""

MAX_FRAMES: Final = 2000
"""Of a longer animation or document, only the beginning counts: 64 MiB hold millions of frames of one pixel, which take
minutes to go through. Two thousand are over a minute at the rate of a video."""

_DEFAULT_MS: Final = 100.0
"""How long browsers show a frame that asks for `_TOO_SHORT_MS` or less."""
_TOO_SHORT_MS: Final = 10.0

_LONGEST_MS: Final = 1000.0
"""A longer pause counts as this much: often the last frame stands for longer than all others together."""

_GRID: Final = 4
"""A late frame lies in the last of this many parts; more would leave less room for dropped frames."""


def later_frames(image: ImageFile.ImageFile, data: bytes, max_pixels: int) -> tuple[int, int] | None:
    """Return the numbers of the middle and the late frame, from 0; None for a still.

    max_pixels  frames are decoded one after the other: of an animation with more pixels up to its last frame, only
                the beginning counts. Pages of a TIFF are decoded alone. No more than MAX_FRAMES are looked at.
    May raise what damaged bytes make Pillow raise.
    """
    if image.format not in _FORMATS:
        return None
    durations = list(islice(_durations(image.format, data), MAX_FRAMES))
    # Pillow would go through the whole file to count the frames of a GIF
    count = len(durations) if image.format == "GIF" else _count(image)
    if len(durations) != count:
        durations = [_DEFAULT_MS] * count
    if image.format != "TIFF":
        durations = durations[: max_pixels // max(1, image.width * image.height)]
    return choose(durations) if len(durations) > 1 else None


def _count(image: ImageFile.ImageFile) -> int:
    """Return how many frames there are, MAX_FRAMES at most."""
    if image.format != "TIFF":
        return min(int(getattr(image, "n_frames", 1)), MAX_FRAMES)
    # pages are a chain that only going through it counts
    count = 1
    while count < MAX_FRAMES and getattr(image, "is_animated", False):
        try:
            image.seek(count)
        except EOFError:
            break
        count += 1
    if count > 1:
        image.seek(0)
    return count


def choose(durations: Sequence[float]) -> tuple[int, int]:
    """Return the numbers of the middle and the late frame, given how long each is shown, in milliseconds.

    The time is cut into steps as long as the shortest frame. Both frames are shown at a multiple of 2, 4, 8 … steps,
    the more the longer the animation is: of every second frame, shown twice as long, the same ones are chosen. The late
    frame lies in the last quarter, and is the last one of at most eight.
    """
    shown = [min(_LONGEST_MS, _DEFAULT_MS if each <= _TOO_SHORT_MS else each) for each in durations]
    ends, step = list(accumulate(shown)), min(shown)
    last = round(ends[-1] / step) - 1
    grid = 1
    while 2 * grid * _GRID <= last:
        grid *= 2
    middle, late = ((steps // grid * grid + 0.5) * step for steps in (last // 2, last))
    return _shown_at(middle, ends), _shown_at(late, ends)


def _shown_at(time: float, ends: Sequence[float]) -> int:
    return next((number for number, end in enumerate(ends) if time < end), len(ends) - 1)


def _durations(format_name: str, data: bytes) -> Iterator[float]:
    """Yield how long each frame is shown, in milliseconds; nothing where the format does not tell in its headers."""
    if format_name == "GIF":
        yield from _gif_durations(data)
    elif format_name == "PNG":
        yield from _png_durations(data)
    elif format_name == "WEBP":
        yield from _webp_durations(data)


_GIF_BLOCK: Final = re.compile(rb"[!,;]")


def _gif_durations(data: bytes) -> Iterator[float]:
    """Read the delays of a GIF: GIF89a specification, sections 18 to 23."""
    at, delay = 13 + _colour_table(data[10]), 0
    # between blocks, decoders skip what is none
    while (block := _GIF_BLOCK.search(data, at)) and block[0] != b";":
        at = block.start()
        if block[0] == b"!":
            if data[at + 1 : at + 2] == b"\xf9":
                delay = int.from_bytes(data[at + 4 : at + 6], "little")
            at += 2
        else:
            yield 10.0 * delay
            delay = 0
            # after the descriptor: a table of colours, and the size of a code
            at += 11 + _colour_table(data[at + 9])
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1


def _colour_table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _png_durations(data: bytes) -> Iterator[float]:
    """Read the delays of an APNG, and one for a picture before it: PNG specification, third edition, 11.3.6."""
    at, animated = 8, False
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT" and not animated:
            yield _DEFAULT_MS
            animated = True
        elif kind == b"fcTL":
            numerator, denominator = struct.unpack_from(">HH", data, at + 28)
            yield 1000 * numerator / (denominator or 100)
            animated = True
        at += 12 + length


def _webp_durations(data: bytes) -> Iterator[float]:
    """Read the durations of a WebP's ANMF chunks: RFC 9649, section 2.7.1.1."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            yield float(int.from_bytes(data[at + 20 : at + 23], "little"))
        at += 8 + length + length % 2
