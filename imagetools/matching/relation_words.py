"""Say in plain words what two pictures show of each other, and why a pair is no duplicate."""

from typing import Final

from imagetools.matching.relation import Relation
from imagetools.matching.verify import MAX_REGIONS, Verification

_RELATIONS: Final[dict[Relation, str]] = {
    "same": "the same picture",
    "crop": "one shows a part of the other: {neighbor} contains {candidate}",
    "contains": "one shows a part of the other: {candidate} contains {neighbor}",
    "overlap": "they overlap: {candidate} and {neighbor} show a part of each other",
    "blank": "both are blank",
    "template": "same template, other content",
    "moved": "same scene, moved",
    "recoloured": "same picture in other colours",
    "": "",
}
_GATES: Final = {
    "too few keypoints": "one of them has too few details to compare, and the whole pictures differ",
    "too few close codes": "they have no details in common",
    "too few matches": "they have too few details in common",
    "no common geometry": "what they have in common lies in different places",
}


def relation_in_words(relation: Relation, candidate: str, neighbor: str) -> str:
    """Return the relation in words, with these names for the two pictures; "" for unrelated ones."""
    return _RELATIONS[relation].format(candidate=candidate, neighbor=neighbor)


def why_no_duplicate(found: Verification) -> str:
    """Return why a pair is no duplicate."""
    match found.relation:
        case "template":
            return "same template, other content" + _places(len(found.regions))
        case "moved":
            return f"same scene, in which something moved over {_percent(found.moved)} of it"
        case "recoloured":
            return f"same picture in other colours, which differ by {found.recoloured:.0f} (CIE76)"
        case "blank":
            return "both are blank, and not equal in every pixel"
        case "":
            frame, _, gate = found.gate.rpartition(" frame: ")
            words = _GATES.get(gate) or _how_far(found)
            return f"of their {frame} frames: {words}" if frame else words
        case _:
            return _how_far(found)


def _places(count: int) -> str:
    if count == 0:
        return ""
    more = " or more" if count == MAX_REGIONS else ""
    return " at one place" if count == 1 else f" at {count}{more} places"


def _how_far(found: Verification) -> str:
    return f"laid over each other, {_percent(found.agreement)} of what they show agrees, and the rest does not"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
