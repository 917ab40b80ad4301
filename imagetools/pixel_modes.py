"""Convert pictures of any pixel mode to RGB."""

from typing import Final, cast

from PIL import Image

from imagetools.errors import UnsupportedImage

_NEARLY_WHITE: Final = 250
"""Level from which a picture is lost on white."""


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert a picture to RGB, transparency laid on white; UnsupportedImage for other kinds of colour."""
    if image.mode.startswith(("I", "F")):
        return _to_8_bits(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        full = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        alpha = full.getchannel("A")
        on_white = Image.new("RGB", image.size, "white")
        on_white.paste(full, mask=alpha)
        if _is_white(on_white) and not _is_even(alpha):
            # a white logo shows on black alone
            on_white.paste("black", (0, 0, *image.size))
            on_white.paste(full, mask=alpha)
        return on_white
    if image.mode not in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"):
        raise UnsupportedImage(name, f"colours of the kind {image.mode} are not read")
    return image.convert("RGB")


def _is_white(image: Image.Image) -> bool:
    return all(low >= _NEARLY_WHITE for low, _ in cast(tuple[tuple[int, int], ...], image.getextrema()))


def _is_even(alpha: Image.Image) -> bool:
    low, high = cast(tuple[int, int], alpha.getextrema())
    return high - low <= 255 - _NEARLY_WHITE


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits, 32 bits or floats to RGB grey by the range of the values; stretch an unusual range to fit."""
    wide = image.convert("F")
    low, high = cast(tuple[float, float], wide.getextrema())
    if image.mode.startswith("I;16") or (low >= 0 and 255 < high <= 65535):
        low, high = 0.0, 65535.0
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    scale = 255.0 / max(high - low, 1e-30)
    # + 0.5: conversion to 8 bits truncates
    return wide.point(lambda level: level * scale + (0.5 - low * scale)).convert("L").convert("RGB")
