"""How often and how far photos are edited."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AugmentConfig:
    """The share of views that each edit applies to, and the edits' limits.

    layouts      shares of: alone, padded, in a collage, pasted onto another photo, on a screen
    plain        views without any edit
    crop         smallest share of the photo's area that a crop keeps
    turn         largest turn in degrees
    """

    layouts: tuple[float, float, float, float, float] = (0.36, 0.05, 0.30, 0.09, 0.20)
    plain: float = 0.08
    crop: float = 0.3
    cropped: float = 0.5
    mirrored: float = 0.3
    flipped: float = 0.15
    quarter: float = 0.15
    turned: float = 0.2
    turn: float = 35.0
    patched: float = 0.2
    captioned: float = 0.12
    coloured: float = 0.35
    greyed: float = 0.1
    blurred: float = 0.15
    packed: float = 0.15
