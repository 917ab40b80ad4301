"""Which frames stand for an animation: the same in every format, after joining and dropping frames, however damaged."""

import io
import logging
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from imagetools.decode import DecodeConfig, decode, decode_frames
from imagetools.errors import ImageTooLarge
from imagetools.frames import MAX_FRAMES, choose
from imagetools.opener import FileOpener, KeptFrames


def frame(number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A frame of a shade of its own."""
    return Image.new("RGB", size, (20 * number, 255 - 20 * number, 100))


def packed(frames: list[Image.Image], format_name: str, **options: object) -> bytes:
    out = io.BytesIO()
    frames[0].save(out, format_name, save_all=True, append_images=frames[1:], **options)
    return out.getvalue()


def numbers(data: bytes, config: DecodeConfig | None = None) -> list[int]:
    """Which of `frame` were decoded."""
    found = decode_frames(data, "a", config=config or DecodeConfig())
    return [round(float(np.asarray(image)[..., 0].mean()) / 20) for image in found]


FORMATS: dict[str, dict[str, Any]] = {
    "GIF": {},
    "WEBP": {"lossless": True},
    "PNG": {},
    "AVIF": {"quality": 95},
    "TIFF": {},
}


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (2, [0, 0, 1]), (3, [0, 1, 2]), (8, [0, 3, 7]), (10, [0, 4, 8]), (12, [0, 4, 10])]
)
def test_the_first_a_middle_and_a_late_frame_are_decoded(format_name, count, chosen):
    options = FORMATS[format_name] | ({} if format_name == "TIFF" else {"duration": 100})
    data = packed([frame(number) for number in range(count)], format_name, **options)
    assert numbers(data) == chosen
    assert decode(data, "a").tobytes() == decode_frames(data, "a")[0].tobytes()


def test_of_every_second_frame_the_same_ones_are_chosen():
    for count in range(9, 200):
        middle, late = choose([100] * count)
        assert [2 * number for number in choose([200] * -(-count // 2))] == [middle, late]
        assert count / 4 <= middle + 1 <= count / 2 + 1
        assert late + 1 >= 3 * count / 4


def test_joined_frames_and_long_pauses_change_nothing():
    assert choose([100] * 10) == (4, 8)
    # frames 0 to 2 and 5 to 6 as one each: the frame shown at the same time
    assert choose([300, 100, 100, 200, 100, 100, 100]) == (2, 5)
    assert choose([100] * 9 + [60_000]) == choose([100] * 9 + [1000])
    # as browsers show them
    assert choose([0] * 10) == choose([100] * 10)


def test_frames_that_are_all_equal_are_a_still():
    assert numbers(packed([frame(3), frame(3), frame(3)], "TIFF")) == [3]


@pytest.mark.parametrize("format_name", ["GIF", "PNG", "TIFF"])
def test_a_damaged_later_frame_leaves_the_first(format_name, caplog):
    noise = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8)) for i in range(4)]
    data = packed(noise, format_name)
    cut = data[: int(0.7 * len(data))]
    if format_name == "TIFF":
        # pages stand one after the other, each with its directory behind it
        cut = data[:-3000]
    with caplog.at_level(logging.WARNING):
        (image,) = decode_frames(cut, "torn.gif")
    assert image.tobytes() == decode(data, "a").tobytes()
    assert "torn.gif" in caplog.text
    assert "the first frame alone is looked at" in caplog.text


def test_pixels_of_all_frames_are_bounded(caplog):
    pages = packed([frame(number) for number in range(12)], "GIF", duration=100)
    pixels = 64 * 48
    assert numbers(pages, DecodeConfig(max_pixels=12 * pixels)) == [0, 4, 10]
    # the beginning counts, as far as the limit goes
    assert numbers(pages, DecodeConfig(max_pixels=3 * pixels)) == [0, 1, 2]
    assert numbers(pages, DecodeConfig(max_pixels=pixels)) == [0]
    with pytest.raises(ImageTooLarge):
        decode_frames(pages, "a", config=DecodeConfig(max_pixels=pixels - 1))
    larger = packed([frame(0), frame(1, (640, 480)), frame(2)], "TIFF")
    with caplog.at_level(logging.WARNING):
        assert numbers(larger, DecodeConfig(max_pixels=40 * pixels)) == [0]
    assert "640 × 480" in caplog.text


def light(number: int) -> bool:
    """Tell which frames of one pixel are the lighter ones."""
    return bool(number // 256 % 2)


def tiny_gif(count: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    one = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02"
    return head + b"".join(one + (b"\x4c\x01\0" if light(i) else b"\x44\x01\0") for i in range(count)) + b";"


def tiny_tiff(count: int) -> bytes:
    out, size = bytearray(b"II*\0\x08\0\0\0"), 2 + 12 * 9 + 4
    for number in range(count):
        pixel = len(out) + size
        tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: pixel, 277: 1, 278: 1, 279: 1}
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in tags)
        out += struct.pack("<IBB", pixel + 2 if number < count - 1 else 0, 255 * light(number), 0)
    return bytes(out)


def tiny_png(count: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    out += chunk(b"acTL", struct.pack(">II", count, 0))
    for number in range(count):
        pixel = zlib.compress(bytes([0, 255 * light(number)]))
        out += chunk(b"fcTL", struct.pack(">IIIIIHHBB", max(0, 2 * number - 1), 1, 1, 0, 0, 1, 10, 0, 0))
        out += chunk(b"fdAT", struct.pack(">I", 2 * number) + pixel) if number else chunk(b"IDAT", pixel)
    return out + chunk(b"IEND", b"")


def tiny_webp(count: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    pixels = [packed([frame(number, (1, 1))], "WEBP", lossless=True)[12:] for number in (0, 12)]
    body = chunk(b"VP8X", b"\x02" + bytes(9)) + chunk(b"ANIM", bytes(6))
    for number in range(count):
        body += chunk(b"ANMF", bytes(12) + struct.pack("<I", 100) + pixels[light(number)])
    return chunk(b"RIFF", b"WEBP" + body)


@pytest.mark.parametrize(
    ("make", "plugin", "step"),
    [
        (tiny_gif, GifImagePlugin.GifImageFile, "_seek"),
        (tiny_tiff, TiffImagePlugin.TiffImageFile, "_seek"),
        (tiny_png, PngImagePlugin.PngImageFile, "_seek"),
        (tiny_webp, WebPImagePlugin.WebPImageFile, "_get_next"),
    ],
)
def test_frames_that_are_gone_through_are_bounded_however_small(
    make: Callable[[int], bytes], plugin: type[Any], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, go = 0, getattr(plugin, step)

    def counted(*args: Any) -> Any:
        nonlocal taken
        taken += 1
        return go(*args)

    monkeypatch.setattr(plugin, step, counted)
    found = decode_frames(make(2 * MAX_FRAMES), "a")
    assert taken <= MAX_FRAMES + 8
    lighter = [image.tobytes() != found[0].tobytes() for image in found]
    assert lighter == [light(number) for number in (0, *choose([100] * MAX_FRAMES))]


def test_what_is_no_block_of_a_gif_is_skipped():
    data = packed([frame(number) for number in range(3)], "GIF", duration=100)
    # before the extension of the second frame
    at = data.index(b"!\xf9", data.index(b"!\xf9") + 1)
    assert numbers(data[:at] + b"\0\0" + data[at:]) == [0, 1, 2]
    assert numbers(data[:-1] + b"\0!") == [0, 1, 2]


def test_later_frames_are_decoded_once_for_a_box_and_kept_within_bounds():
    data, reads = packed([frame(number) for number in range(3)], "GIF", duration=100), 0

    def read() -> bytes:
        nonlocal reads
        reads += 1
        return data

    size = 3 * 3 * 64 * 48
    kept = KeptFrames(size)
    one, two = (FileOpener(read, name, kept=kept) for name in ("one", "two"))
    box = (64, 48)
    middle, late = (one.frame(number)(box) for number in (1, 2))
    assert reads == 1
    assert (middle.tobytes(), late.tobytes()) == tuple(found.tobytes() for found in one.frames(box)[1:])
    two.frame(1)(box)
    assert kept.nbytes == size
    reads = 0
    one.frame(1)(box)
    assert reads == 1
    assert FileOpener(read, "none", kept=KeptFrames(size - 1)).frame(1)(box).tobytes() == middle.tobytes()


def test_a_still_is_decoded_once_for_a_box():
    """A page is compared with dozens of others."""
    data, reads = packed([frame(number) for number in range(3)], "GIF", duration=100), 0

    def read() -> bytes:
        nonlocal reads
        reads += 1
        return data

    opener = FileOpener(read, "one")
    first, again, _ = opener((64, 48)), opener((64, 48)), opener((32, 24))
    assert reads == 2
    assert first is again
    # the frames are not taken for the picture, nor the picture for the frames
    assert len(opener.frames((64, 48))) == 3
    assert opener.frame(2)((64, 48)).tobytes() != opener((64, 48)).tobytes()
