"""Pairs of drawn animations with known answers: a black first frame, one title before other content, copies, stills.

As in folders that people have, the first frame tells little. Every animation is a file, read as the matcher stage reads
files.
"""

import io
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageOps

from bench.drawing import font, tint_of, words

FRAMES: Final = 10
SIZE: Final = (320, 240)

Frames = Sequence[Image.Image]


def black_first(content: int, style: int = 0) -> Frames:
    """Return shapes that move over a ground after a black frame."""
    return [Image.new("RGB", SIZE), *_moving(content, FRAMES - 1)]


def titled(content: int, style: int = 0) -> Frames:
    """Return shapes that move after a title, which `style` decides."""
    rng = random.Random(style)
    title = Image.new("RGB", SIZE, tint_of(rng))
    ImageDraw.Draw(title).text((160, 120), words(rng, 2), fill="white", font=font("DejaVuSans-Bold", 30), anchor="mm")
    return [title, title, *_moving(content, FRAMES - 2)]


def other_ending(content: int, style: int = 0) -> Frames:
    """Return a beginning that `style` decides, and another second half."""
    return [*_moving(style, FRAMES)[: FRAMES // 2], *_moving(1000 + content, FRAMES)[FRAMES // 2 :]]


KINDS: Final[dict[str, Callable[[int, int], Frames]]] = {
    "black first frame": black_first,
    "one title": titled,
    "other second half": other_ending,
}


def _moving(seed: int, count: int) -> Frames:
    """Return a textured ground with shapes that move a few pixels a frame."""
    rng = random.Random(seed)
    ground = Image.frombytes("RGB", (8, 6), rng.randbytes(144)).resize(SIZE, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(ground)
    for _ in range(12):
        x, y, r = rng.randrange(320), rng.randrange(240), rng.randrange(6, 30)
        draw.regular_polygon((x, y, r), rng.choice([3, 4, 5, 6]), rng.randrange(360), fill=tint_of(rng, 0, 256))
    movers = [(rng.randrange(320), rng.randrange(240), rng.uniform(-4, 4), rng.uniform(-3, 3)) for _ in range(3)]
    tints = [tint_of(rng, 0, 256) for _ in movers]
    frames = []
    for number in range(count):
        frame = ground.copy()
        for (x, y, dx, dy), tint in zip(movers, tints, strict=True):
            at = (x + dx * number) % 320, (y + dy * number) % 240
            ImageDraw.Draw(frame).ellipse((at[0] - 14, at[1] - 14, at[0] + 14, at[1] + 14), fill=tint, outline="white")
        frames.append(frame)
    return frames


def packed(frames: Frames, format_name: str = "GIF", duration: int = 100, **options: object) -> bytes:
    """Return an animation as a file."""
    if format_name == "GIF":
        # many times as fast as the palette that Pillow would choose
        frames = _each(frames, lambda frame: frame.quantize(method=Image.Quantize.FASTOCTREE))
    out = io.BytesIO()
    frames[0].save(out, format_name, save_all=True, append_images=frames[1:], duration=duration, loop=0, **options)
    return out.getvalue()


def _each(frames: Frames, change: Callable[[Image.Image], Image.Image]) -> Frames:
    return [change(frame) for frame in frames]


COPIES: Final[dict[str, Callable[[Frames], bytes]]] = {
    "half the size": lambda frames: packed(_each(frames, lambda frame: ImageOps.scale(frame, 0.5))),
    "WebP": lambda frames: packed(frames, "WEBP", quality=60),
    "APNG": lambda frames: packed(frames, "PNG"),
    "AVIF": lambda frames: packed(frames, "AVIF", quality=60),
    "every second frame": lambda frames: packed(frames[::2], duration=200),
    "mirrored": lambda frames: packed(_each(frames, ImageOps.mirror)),
    "grey": lambda frames: packed(_each(frames, lambda frame: frame.convert("L").convert("RGB"))),
    "cropped": lambda frames: packed(_each(frames, lambda frame: frame.crop((30, 20, 300, 220)))),
}
"""The same animation as another file."""


def still(frames: Frames, at: int) -> bytes:
    """Return a frame as a JPEG."""
    out = io.BytesIO()
    frames[at].save(out, "JPEG", quality=85)
    return out.getvalue()


def different(count: int, seed: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield the kind and two files of different content: all pairs of `count` of each kind."""
    for kind, make in KINDS.items():
        files = [packed(make(seed + number, seed)) for number in range(count)]
        for one, two in itertools.combinations(files, 2):
            yield kind, one, two


def copies(count: int, seed: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield how a copy was made, the copy and the original, `count` of each kind and copy; and stills of them."""
    for make in KINDS.values():
        for number in range(count):
            frames = make(seed + number, seed)
            original = packed(frames)
            for name, copy in COPIES.items():
                yield name, copy(frames), original
            yield "a still of it", still(frames, 4), original
