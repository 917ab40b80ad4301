"""What two pictures of a pair show of each other, in one word."""

from typing import Final, Literal, get_args

Relation = Literal[
    "same", "crop", "contains", "overlap", "blank", "template", "moved", "recoloured", "",
]  # fmt: skip
"""What the candidate shows of the neighbor.

same        the whole of both: re-encoded, resized, recoloured, turned, mirrored, captioned or framed
crop        the candidate shows a part of the neighbor
contains    the candidate contains the neighbor
overlap     both show a part of something
blank       both are blank
template    same template, other content; no duplicate
moved       same scene, in which something moved; no duplicate, by the setting
recoloured  same picture in other colours; no duplicate, by the setting
""          unrelated
"""

RELATIONS: Final[tuple[Relation, ...]] = get_args(Relation)

MIN_WHOLE: Final = 0.94
"""Share of a picture from which the other shows the whole of it. Of 30 photos, copies that were re-encoded, resized,
turned or mirrored cover .97 of it or more (of what the turn keeps), and crops to 90 % at most .91."""

# Share of what lies around the other picture that has one shade, from which it is a frame
_MIN_FLAT: Final = 0.9


def relation_of(
    coverage_candidate: float, coverage_neighbor: float, kept: float, *, flat: tuple[float, float]
) -> Relation:
    """Return the relation of two pictures that show the same.

    coverage_candidate, coverage_neighbor  share of each area that the other covers, 0 to 1
    kept                                   share of a picture that stays in a frame of its size when it is turned by
                                           the pair's angle about its middle
    flat                                   share of each picture outside the overlap that is of one shade
    """
    framed = [share >= _MIN_FLAT for share in flat]
    candidate = coverage_candidate >= MIN_WHOLE * kept or framed[0]
    neighbor = coverage_neighbor >= MIN_WHOLE * kept or framed[1]
    if candidate:
        return "same" if neighbor else "crop"
    return "contains" if neighbor else "overlap"
