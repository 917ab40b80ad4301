"""Which frames of animations a pair matched by, for a report that shows them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from cli.report.file_looks import THUMBNAIL_SIDE
from cli.report.found_groups import Pair
from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.features.cache import FeatureCache
from imagetools.folder import REPORT_FILES
from imagetools.image_root import ImageRoot
from imagetools.matching.animation import PLACES
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import Verification, verify
from schemas.records import Duplicate, Duplicates

_SAID: Final = "one frame of an animation"
"""How the words for an edit begin that found a still in an animation."""


@dataclass(frozen=True)
class MatchedFrames:
    """The frames that a pair matched by, at least one of them a later one.

    numbers   of the neighbor's and the candidate's frame, in `Features.frames`
    evidence  points and regions on them, as the JSON contract shapes it
    """

    numbers: tuple[int, int]
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class FrameLook:
    """A later frame on the page.

    words      which one it is
    thumbnail  relative to the report's folder
    size       (width, height) of the thumbnail in pixels
    """

    words: str
    thumbnail: str
    size: tuple[int, int]


def matched_frames(
    alerts: Iterable[Duplicates],
    images: ImageRoot,
    config: MatcherConfig,
    cache: FeatureCache,
    stopped: Callable[[], bool],
) -> dict[Pair, MatchedFrames]:
    """Compare again the pairs that later frames decided, since records have no points on those."""
    found: dict[Pair, MatchedFrames] = {}
    pairs = [(alert.candidate, one) for alert in alerts for one in alert.duplicated if _by_later_frame(one)]
    for candidate, one in pairs:
        if stopped():
            break
        try:
            frames = _compare(candidate, one.relative_path, images, config, cache)
        except (ImageError, ImageRootUnavailable):
            # the report says which files cannot be read any more
            continue
        if frames is not None:
            found[one.relative_path, candidate] = frames
    return found


def _by_later_frame(found: Duplicate) -> bool:
    return (found.inliers > 0 and not found.points) or found.edit.startswith(_SAID)


def _compare(
    candidate: str, neighbor: str, images: ImageRoot, config: MatcherConfig, cache: FeatureCache
) -> MatchedFrames | None:
    """Return the frames; None where first ones decided, or the files have changed so that they are no pair."""
    openers = images.opener(candidate), images.opener(neighbor)
    found = verify(cache.get(images, candidate), cache.get(images, neighbor), config, openers)
    if not found.duplicate or not any(found.frames):
        return None
    return MatchedFrames((found.frames[1], found.frames[0]), _evidence(found))


def _evidence(found: Verification) -> dict[str, Any]:
    return {"points": found.points, "regions": [(*ours, *theirs) for ours, theirs in found.regions]}


def with_frames(
    evidence: Mapping[Pair, Mapping[str, Any]], frames: Mapping[Pair, MatchedFrames], report: Path, images: ImageRoot
) -> tuple[dict[Pair, Mapping[str, Any]], int]:
    """Return evidence that names the later frames by which pairs matched, and how many thumbnails of them there are.

    In such evidence `frames` has the looks of the neighbor's and the candidate's; None for a first frame, or one that
    cannot be read any more.
    """
    looks: dict[tuple[str, int], FrameLook | None] = {}
    told = dict(evidence)
    for pair, matched in frames.items():
        if pair not in evidence:
            continue
        for place in zip(pair, matched.numbers, strict=True):
            if place not in looks:
                looks[place] = _look_at(*place, images, report, f"{REPORT_FILES}/frame-{len(looks):06}.jpg")
        both = tuple(looks[place] for place in zip(pair, matched.numbers, strict=True))
        told[pair] = {**evidence[pair], **matched.evidence, "frames": both}
    return told, len(looks)


def _look_at(path: str, number: int, images: ImageRoot, report: Path, thumbnail: str) -> FrameLook | None:
    if not number:
        return None
    try:
        picture = images.opener(path).frame(number)((THUMBNAIL_SIDE, THUMBNAIL_SIDE)).copy()
    except (ImageError, ImageRootUnavailable):
        return None
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    picture.save(report / thumbnail, quality=82)
    return FrameLook(f"{PLACES[number]} frame", thumbnail, picture.size)
