"""The groups of one `imagetools find`, from its alerts and from decisions."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.report.file_looks import FileLook
from imagetools.grouping.grouping import Grouping
from imagetools.grouping.keep import KEEP_ORDER, FileFacts, suggest
from imagetools.grouping.records import Compare, Decision, Edge, Group, ImageKey, Placed
from imagetools.grouping.relations import Relation
from imagetools.matching.relation import MIN_WHOLE
from imagetools.paths import identity
from streams.pair_evidence import says_added, says_covered

Pair = tuple[str, str]
"""Neighbor and candidate."""


@dataclass(frozen=True)
class GroupedFile:
    """A file of a group, or one that a group is linked to.

    relation   to the one to keep
    same_file  another name of a file before it
    keep       whether it is the one to keep
    extra      a copy of the one to keep, in a file of its own
    """

    path: str
    content: str
    relation: Relation
    look: FileLook
    same_file: bool = False
    keep: bool = False
    extra: bool = False


@dataclass(frozen=True)
class FoundGroup:
    """A group with all that is said of it.

    files     in the order of the folder
    keep      suggestion; empty for blank pictures, which are not copies of each other
    reasons   for it, in words
    reference the file that relations are to: the one to keep, if there is one
    pairs     reported pairs inside
    related   reported pairs with other groups that are shown here: where this group shows more of the picture, or is
              the earlier one
    """

    group: Group
    files: tuple[GroupedFile, ...]
    keep: str
    reasons: tuple[str, ...]
    reference: str
    pairs: tuple[Pair, ...]
    related: tuple[Pair, ...]

    @property
    def file_count(self) -> int:
        """Number of files that the members are names of."""
        return sum(not file.same_file for file in self.files)


def group_pairs(
    edges: Iterable[Edge], decisions: Sequence[Decision], places: Mapping[str, int], compare: Compare
) -> Grouping:
    """Group the images of all edges and decisions.

    places  order of the images; those that it lacks come last, by path
    """
    edges = list(edges)
    images = {image for edge in edges for image in (edge.left, edge.right)}
    images |= {image for decision in decisions for image in (decision.left, decision.right)}
    placed = [Placed(image.path, image.content, places.get(image.path, len(places))) for image in images]
    grouping = Grouping(compare)
    grouping.apply([*placed, *decisions, *edges])
    return grouping


def evidence_by_pair(alerts: Iterable[Mapping[str, Any]]) -> dict[Pair, Mapping[str, Any]]:
    """Return the evidence of each pair; that of a pair that is reported again, with newer contents, is the newer."""
    pairs: dict[Pair, Mapping[str, Any]] = {}
    for alert in sorted(alerts, key=lambda alert: str(alert.get("time", ""))):
        for duplicate in alert["duplicated"]:
            pair = (str(duplicate["relative_path"]), str(alert["candidate"]))
            pairs.pop(pair[::-1], None)
            pairs[pair] = duplicate
    return pairs


def count_groups(grouping: Grouping, folder: Path | None) -> int:
    """Return the number of groups of two files or more; two names of one file are one."""
    paths = [[member.image.path for member in group.members] for group in grouping.groups()]
    return sum(len({_file_of(folder, path) for path in members}) > 1 for members in paths)


def describe_groups(
    grouping: Grouping,
    alerts: Mapping[Pair, Mapping[str, Any]],
    looks: Mapping[str, FileLook],
    folder: Path | None,
    order: Sequence[str] = KEEP_ORDER,
) -> list[FoundGroup]:
    """Return the groups with their files and pairs: those of copies first, the largest of them first.

    alerts  evidence of each reported pair
    looks   of each image in a group
    folder  that they are in; None: a store
    order   by which the one to keep is chosen
    """
    groups = list(grouping.groups())
    place = {group.id: number for number, group in enumerate(groups)}
    of_path = {member.image.path: group.id for group in groups for member in group.members}
    home: dict[ImageKey, tuple[list[Pair], list[Pair]]] = {group.id: ([], []) for group in groups}
    for pair, evidence in alerts.items():
        neighbor, candidate = (of_path[path] for path in pair)
        if neighbor == candidate:
            home[neighbor][0].append(pair)
            continue
        wider = {str(Relation.CROP): neighbor, str(Relation.CONTAINS): candidate}.get(evidence["relation"])
        home[wider or min(neighbor, candidate, key=place.__getitem__)][1].append(pair)
    names = _names_of_one_file(folder, of_path)
    found = [_describe(grouping, group, home[group.id], alerts, looks, names, folder, order) for group in groups]
    return sorted(found, key=lambda one: (one.file_count == 1, not one.related, -len(one.files)))


def _describe(
    grouping: Grouping,
    group: Group,
    pairs: tuple[list[Pair], list[Pair]],
    alerts: Mapping[Pair, Mapping[str, Any]],
    looks: Mapping[str, FileLook],
    names: Mapping[str, str],
    folder: Path | None,
    order: Sequence[str],
) -> FoundGroup:
    images = [member.image for member in group.members]
    cropped, written_on = _marks({pair: alerts[pair] for pair in pairs[0]})
    facts = {image: _facts(looks[image.path], image.path in cropped, image.path in written_on) for image in images}
    # the name by which a file stands in the folder, rather than a link to it
    real = [image for image in images if folder is None or not os.path.islink(folder / image.path)]
    suggestion = suggest(real or images, facts, order)
    kept = suggestion.keep
    several = len({names[image.path] for image in images}) > 1
    seen: set[str] = set()
    files = []
    for image in images:
        file = names[image.path]
        files.append(
            GroupedFile(
                image.path,
                image.content,
                grouping.relation(image, kept),
                looks[image.path],
                same_file=file in seen,
                keep=image == kept and not group.blank and several,
                extra=not group.blank and file != names[kept.path],
            )
        )
        seen.add(file)
    alone = group.blank or not several
    return FoundGroup(
        group,
        tuple(files),
        "" if alone else kept.path,
        () if alone else suggestion.reasons,
        kept.path,
        tuple(sorted(pairs[0], key=lambda pair: -alerts[pair]["score"])),
        tuple(sorted(pairs[1], key=lambda pair: -alerts[pair]["score"])),
    )


def _facts(look: FileLook, cropped: bool, written_on: bool) -> FileFacts:
    return FileFacts(
        look.width,
        look.height,
        look.bytes,
        look.format,
        cropped=cropped,
        written_on=written_on,
        quality=look.quality,
    )


def _marks(pairs: Mapping[Pair, Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """Return which files of a group are cropped, and which are framed or written on.

    A frame leaves a part of its picture that no other covers. Where an alert does not tell on which side of a pair a
    cover lies, it lies on the file of which all pairs have it, if a pair of others has none.
    """
    cropped, framed = set[str](), set[str]()
    covered, plain = Counter[str](), Counter[str]()
    for (neighbor, candidate), evidence in pairs.items():
        match evidence["relation"]:
            case Relation.CROP:
                cropped.add(candidate)
            case Relation.CONTAINS:
                cropped.add(neighbor)
            case Relation.SAME:
                # a picture of which less is covered has something around it
                framed |= {candidate} if evidence["coverage_candidate"] < MIN_WHOLE else set()
                framed |= {neighbor} if evidence["coverage_neighbor"] < MIN_WHOLE else set()
        added = says_added(evidence["edit"])
        framed |= {path for path, has in zip((candidate, neighbor), added, strict=True) if has}
        (covered if says_covered(evidence["edit"]) else plain).update((neighbor, candidate))
    return cropped, framed | {path for path in covered if plain and path not in plain}


def _names_of_one_file(folder: Path | None, paths: Iterable[str]) -> dict[str, str]:
    """Return for each path the first path that leads to the same file."""
    first: dict[object, str] = {}
    return {path: first.setdefault(_file_of(folder, path), path) for path in paths}


def _file_of(folder: Path | None, path: str) -> object:
    """Return what is equal for all names of a file; in a store, each has one name."""
    return path if folder is None else identity(folder / path) or path
