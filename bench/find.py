"""The findings of `imagetools find`: edited copies among other photos, from files to alerts.jsonl, with the time.

    python -m bench.find [--photos N] [--others N] [--edits NAME ...] [--folder FOLDER] [--immaculate PROGRAM]

The folder holds photos that no weights were trained on, a copy of each under every edit, and other photos. Shuffled
names put an original before, after or between its copies. A copy is found if reported pairs connect it with its
original, directly or through others, like the report's groups.

A reported pair is true if both files show the same photo: the original, a copy, or the second picture of a collage or
a patch. Files with the same bytes are one photo, and so are those of `SAME_PHOTO`. All other pairs are false, except
two other photos that `lookalikes.tsv` does not list: the collection may hold a scene twice, so these are counted
separately. Slices of one tomography (`bench.pairs.SERIES`), each like the one before, are left out.

With --immaculate, that program judges the same folder by its method `sscd_distilled`, a small copy-detection network:
`pip install 'immaculate[sscd]'`, which needs Python 3.12. It reports groups; all pairs of a group are counted.
"""

import hashlib
import itertools
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import imagehash
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.pairs import HELD_OUT, SAMPLES, SERIES, SHARED, PhotoSides
from cli.demo_images import LOOKALIKES
from cli.find import find
from imagetools.edits import EDITS
from imagetools.grouping.connected import ConnectedImages
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot

SAMPLED = 10
"""Photos to edit if the folder has no held-out ones."""

WITH_SECOND = ("collage", "patch")
"""Edits that also show a second photo."""

SAME_PHOTO = {"clothing/b59e4d4a.jpg": "heldout/e6a8b33f-279c-4072-8dba-229d94205e55.jpg"}
"""Copies in the original collection: each is the other, cropped and enlarged."""

ORIGINAL, OTHER = "original", "other"
HAMMING = 8
SHOWN = 20

Pair = tuple[str, str]


@dataclass(frozen=True)
class File:
    """An image of the folder.

    kind   original, other, or the edit's name
    photo  the photo, or the photo that it is a copy of
    shows  all photos in the image
    """

    name: str
    kind: str
    photo: str
    shows: frozenset[str]


def build(source: Path, photos: Sequence[str], others: Sequence[str], edits: Sequence[str], to: Path) -> list[File]:
    """Write the images into a folder. The same names give the same files."""
    root = ImageRoot(source)
    first_with: dict[bytes, str] = {}
    same = {p: first_with.setdefault(hashlib.sha256(root.read(p)).digest(), p) for p in [*photos, *others]}
    same.update({p: original for p, original in SAME_PHOTO.items() if p in same})
    planned = [*((OTHER, p) for p in others), *((kind, p) for p in photos for kind in (ORIGINAL, *edits))]
    random.Random(0).shuffle(planned)

    def write(number: int, kind: str, photo: str) -> File:
        stem = Path(photo).stem
        if kind in (ORIGINAL, OTHER):
            name = f"{number:05} {kind} {stem}{Path(photo).suffix}"
            shutil.copyfile(source / photo, to / name)
            return File(name, kind, same[photo], frozenset((same[photo],)))
        rng, name = random.Random(f"{kind} {photo}"), f"{number:05} {kind} of {stem}.jpg"
        second = rng.choice(others) if kind in WITH_SECOND else None
        copy = EDITS[kind](root.open(photo), rng, root.open(second) if second else None)
        copy.save(to / name, quality=90)
        return File(name, kind, same[photo], frozenset(same[p] for p in (photo, second) if p))

    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(write, range(len(planned)), *zip(*planned, strict=True)))


def reported(alerts: Path) -> dict[Pair, dict[str, Any]]:
    """Return every pair of alerts.jsonl with its evidence."""
    lines = (json.loads(line) for line in alerts.read_bytes().splitlines())
    return {_pair(line["candidate"], d["relative_path"]): d for line in lines for d in line["duplicated"]}


def is_true(one: File, two: File, lookalikes: Collection[Pair]) -> bool | None:
    """Return whether both show the same photo; None for two other photos, where it is unknown."""
    if one.shows & two.shows:
        return True
    return None if one.kind == two.kind == OTHER and _pair(one.photo, two.photo) not in lookalikes else False


def recall(originals: Mapping[File, str], tests: Mapping[str, Callable[[str, str], bool]]) -> Table:
    """Print the share of copies that each test connects with their original, by edit and over all."""
    table = Table("edit", "copies", *tests, title="copies joined with their original, %")
    for edit in (*EDITS, "all"):
        made = [(copy.name, original) for copy, original in originals.items() if edit in (copy.kind, "all")]
        if made:
            shares = (100 * sum(joins(*pair) for pair in made) / len(made) for joins in tests.values())
            table.add_row(edit, f"{len(made):,}", *(f"{share:.1f}" for share in shares))
    return table


def listed(title: str, pairs: Sequence[Pair], evidence: Mapping[Pair, Mapping[str, Any]]) -> Table:
    """Print the pairs with the highest scores."""
    table = Table("score", "one", "other", "said to be", title=f"{title}: {len(pairs)}, at most {SHOWN} shown")
    for pair in sorted(pairs, key=lambda pair: -evidence[pair]["score"])[:SHOWN]:
        seen = evidence[pair]
        table.add_row(f"{seen['score']:.3f}", *map(escape, pair), seen["edit"])
    return table


def _pair(one: str, two: str) -> Pair:
    return min(one, two), max(one, two)


def _choose(source: Path, photos: int | None, others: int) -> tuple[list[str], list[str], set[Pair]]:
    """Return photos to edit, other photos, and pairs of look-alikes among them."""
    known, rng = PhotoSides(source), random.Random(0)
    held = [path for path in known.paths if path.startswith(f"{HELD_OUT}/")] or rng.sample(known.paths, SAMPLED)
    rest = [path for path in known.paths if path not in held and not path.startswith(SERIES)]
    edited, rest = rng.sample(held, min(len(held), photos or len(held))), rng.sample(rest, min(len(rest), others))
    listed = [*known.lookalikes, *((f"{one}.jpg", f"{two}.jpg") for one, two in LOOKALIKES)]
    return edited, rest, {_pair(*pair) for pair in listed if {*edited, *rest}.issuperset(pair)}


def _find(images: Path, report: Path) -> float:
    """Run the job; return its seconds."""
    began = time.monotonic()
    find(images, report, console=Console(quiet=True))
    return time.monotonic() - began


def _hashes(images: Path, names: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Return the perceptual hash of each image, and the seconds for all."""
    root, began = ImageRoot(images), time.monotonic()
    with ThreadPoolExecutor(usable_cores()) as pool:
        hashes = dict(zip(names, pool.map(lambda name: imagehash.phash(root.open(name)), names), strict=True))
    return hashes, time.monotonic() - began


def _peer(program: Path, images: Path) -> tuple[set[Pair], float]:
    """Return the pairs of another program's groups, and its seconds."""
    began = time.monotonic()
    command = [str(program), "--json", "--method", "sscd_distilled", str(images)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    took, said = time.monotonic() - began, json.loads(run.stdout)
    groups = [[Path(path).name for path in group] for kind in ("exact", "near") for group in said[kind]]
    return {_pair(*pair) for group in groups for pair in itertools.combinations(group, 2)}, took


@click.command()
@click.option("--photos", type=click.IntRange(1), help="Photos to edit.  [default: all held-out ones]")
@click.option("--others", default=3000, show_default=True, type=click.IntRange(1), help="Other photos, at most.")
@click.option("--edits", multiple=True, type=click.Choice(list(EDITS)), help="Edits to make.  [default: all]")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep images and report in a new folder.")
@click.option("--immaculate", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Another program.")
def main(photos: int | None, others: int, edits: tuple[str, ...], folder: Path | None, immaculate: Path | None) -> None:
    """Plant copies, find them, and count."""
    console = Console(width=150)
    source = SHARED if SHARED.is_dir() else SAMPLES
    edited, rest, lookalikes = _choose(source, photos, others)
    with nullcontext(str(folder)) if folder else tempfile.TemporaryDirectory() as scratch:
        images, report, single = (Path(scratch) / name for name in ("images", "report", "single"))
        images.mkdir(parents=True)
        single.mkdir()
        files = {file.name: file for file in build(source, edited, rest, edits or tuple(EDITS), images)}
        console.print(f"{len(files):,} images: {len(edited)} photos, copies of them, {len(rest):,} others")
        shutil.copy(images / next(iter(files)), single)
        alone, took = _find(single, single / "report"), _find(images, report)
        hashes, hashed = _hashes(images, list(files))
        theirs, judged = _peer(immaculate, images) if immaculate else (set(), 0.0)
        evidence = reported(report / "alerts.jsonl")
    truth = {pair: is_true(files[pair[0]], files[pair[1]], lookalikes) for pair in evidence}
    true, false, unknown = ([pair for pair in truth if truth[pair] is said] for said in (True, False, None))
    groups, sure = ConnectedImages(evidence), ConnectedImages(true)
    tests: dict[str, Callable[[str, str], bool]] = {
        "by any pairs": groups.connected,
        "by true pairs alone": sure.connected,
        "by a pair of their own": lambda one, two: _pair(one, two) in evidence,
        f"pHash within {HAMMING}": lambda one, two: bool(hashes[one] - hashes[two] <= HAMMING),
    }
    if immaculate:
        joined = ConnectedImages(theirs)
        tests["immaculate, sscd_distilled"] = joined.connected
    place = {file.photo: file.name for file in files.values() if file.kind == ORIGINAL}
    originals = {file: place[file.photo] for file in files.values() if file.kind in EDITS}
    console.print(recall(originals, tests))
    missed = [copy.name for copy, original in originals.items() if not groups.connected(copy.name, original)]
    console.print(escape(f"missed: {'; '.join(missed) or 'none'}"))
    share = 100 * len(true) / max(1, len(true) + len(false))
    console.print(f"precision: {share:.2f} %, {len(true):,} true pairs and {len(false):,} false ones")
    alike = sum(_pair(files[one].photo, files[two].photo) in lookalikes for one, two in false)
    console.print(f"look-alikes: {alike} of {len(lookalikes):,} listed pairs reported")
    console.print(listed("false pairs", false, evidence))
    console.print(listed("pairs among the others, not judged", unknown, evidence))
    times = {"whole job": took, "beyond what one image takes": took - alone, "pHash": hashed}
    if immaculate:
        marks = [is_true(files[one], files[two], lookalikes) for one, two in theirs]
        console.print(f"immaculate: {marks.count(True):,} true pairs and {marks.count(False):,} false ones")
        times["immaculate"] = judged
    for what, seconds in times.items():
        console.print(f"{what}: {seconds:.1f} s, {1000 * seconds / len(files):.1f} ms an image")


if __name__ == "__main__":
    main()
