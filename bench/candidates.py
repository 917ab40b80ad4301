"""The candidates that search gives a matcher, by fingerprint, by local codes, and by both, as a collection grows.

    python -m bench.candidates [--folder FOLDER ...] [--among N ...] [--side fit|report] [--cache FILE]

The encoder's stage describes every photo, and copies of some under all edits of `imagetools.edits`; the index answers
as the stage's does. A copy is found if its original is among the first 1 or 10. "Both" takes the first 1 or 10 of
either, and "as it ships" what NB_NEIGHBORS and NB_LOCAL let through. The second picture of a collage or a patch is
among the photos, too, and is not counted: it may rightly come first. Plain pictures, which have few codes or none, and
copies of them have rows of their own.
"""

import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.embedding_cache import Cache
from bench.pairs import HELD_OUT, SAMPLES, SHARED, PhotoSides, plain
from imagetools.edits import EDITS
from imagetools.fingerprint.encoder import Encoder
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot
from imagetools.index.change import Change
from imagetools.index.index import Index
from imagetools.index.search import Hit
from schemas.records import Embedding, ImageNew
from streams.config import Config
from streams.encoder_consumer import EncoderStage
from streams.search.log_index import codes_of, fingerprints_of, put_record
from streams.search.outputs import more_neighbors
from streams.stage import Received

DISTRACTORS = SHARED.parent / "distractors"
TWO_PHOTOS = ("collage", "patch")
AT_ONCE = 64
ASKED = 100

PLAIN = "plain, "
PLAIN_PHOTOS = 25
"""Photos that each kind of plain picture is made of."""


@dataclass(frozen=True, slots=True, eq=False)
class EditedCopy:
    """An edited copy as it was described.

    original  the path of its original
    edit      how it was made, or after PLAIN the kind of plain picture
    second    the path of the other photo that it shows; empty where there is none
    """

    original: str
    edit: str
    record: Embedding
    second: str = ""


@dataclass
class Ways:
    """What became of the copies of one edit, in one size of collection.

    fingerprint  rank of each original by fingerprint; ASKED + 1: not found
    local        the same by local codes
    shipped      whether it is among what the settings let through
    pairs        how many neighbors the settings let through, for each copy
    added        how many of them by local codes
    """

    fingerprint: list[int] = field(default_factory=list)
    local: list[int] = field(default_factory=list)
    shipped: list[bool] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    added: list[int] = field(default_factory=list)

    def extend(self, other: "Ways") -> None:
        """Count another edit's copies, too."""
        for name, mine in vars(self).items():
            mine.extend(getattr(other, name))


def described(stage: EncoderStage, paths: Sequence[str]) -> Iterator[Embedding]:
    """Yield what the encoder's stage makes of the images that can be read."""
    for start in range(0, len(paths), AT_ONCE):
        batch = [
            Received(path, ImageNew(start + i, path), 0, start + i, 0)
            for i, path in enumerate(paths[start : start + AT_ONCE])
        ]
        for outcome in stage.run(batch):
            record = None if isinstance(outcome, Exception) else outcome[0].record
            if isinstance(record, Embedding):
                yield record


def second_of(edit: str, path: str, others: Sequence[str]) -> str:
    """Return the path of the second photo of a collage or a patch."""
    return random.Random(f"{edit} {path}").choice(others)


def copies_of(root: ImageRoot, path: str, others: Sequence[str], folder: Path) -> list[str]:
    """Write a copy of a photo under each edit, and return the files' names."""
    names = []
    for edit, make in EDITS.items():
        rng = random.Random(f"{edit} {path}")
        copy = make(root.open(path), rng, root.open(rng.choice(others)))
        names.append(f"{edit}.jpg")
        copy.save(folder / names[-1], quality=90)
    return names


def search(change: Change, copy: Embedding, nb_neighbors: int, nb_local: int) -> list[Hit]:
    """Return what the index finds for a copy."""
    return change.search(
        copy.fingerprint,
        nb_neighbors,
        parts=fingerprints_of(copy.parts),
        codes=codes_of(copy.codes),
        nb_local=nb_local,
    )


def ask(index: Index, copies: Sequence[EditedCopy], config: Config) -> dict[str, Ways]:
    """Search for every copy; return by edit what was found."""
    found: dict[str, Ways] = defaultdict(Ways)
    change = index.change()
    for copy in copies:
        ways, record = found[copy.edit], copy.record
        ways.fingerprint.append(_rank(search(change, record, ASKED, 0), copy))
        ways.local.append(_rank(search(change, record, 0, ASKED), copy))
        nb_neighbors = config.nb_neighbors + more_neighbors(record.codes, config)
        shipped = search(change, record, nb_neighbors, config.nb_local)
        ways.shipped.append(any(hit.relative_path == copy.original for hit in shipped))
        ways.pairs.append(len(shipped))
        ways.added.append(sum(hit.reason == "local" for hit in shipped))
    return found


def report(found: dict[str, Ways], title: str, *, edits: bool) -> Table:
    """Return a table of shares in %, of all copies and by edit."""
    every, plain_ones = Ways(), Ways()
    for name, ways in found.items():
        (plain_ones if name.startswith(PLAIN) else every).extend(ways)
    table = Table(
        "edit", "fingerprint", "local codes", "both", "as it ships", "neighbors", "by local codes", title=title
    )
    for name, ways in [("all edits", every), ("plain pictures", plain_ones), *(found.items() if edits else ())]:
        best = [min(ranks) for ranks in zip(ways.fingerprint, ways.local, strict=True)]
        table.add_row(
            name,
            *(f"{_share(ranks, 1)} {_share(ranks, 10)}" for ranks in (ways.fingerprint, ways.local, best)),
            f"{100 * sum(ways.shipped) / len(ways.shipped):.1f}",
            f"{sum(ways.pairs) / len(ways.pairs):.1f}",
            f"{sum(ways.added) / len(ways.added):.2f}",
        )
    return table


def _rank(hits: Sequence[Hit], copy: EditedCopy) -> int:
    paths = [hit.relative_path for hit in hits if hit.relative_path != copy.second]
    return next((rank for rank, path in enumerate(paths, 1) if path == copy.original), ASKED + 1)


def _share(ranks: Sequence[int], at: int) -> str:
    return f"{100 * sum(rank <= at for rank in ranks) / len(ranks):.1f}"


def gather(
    folders: Sequence[Path], asked: Sequence[str], cache: Cache, wanted: Callable[[str], bool]
) -> tuple[list[Embedding], list[EditedCopy]]:
    """Describe the wanted images of the folders, the `asked` of the first one before all, and copies of these."""
    encoder, gallery = Encoder.load(), []
    for folder in folders:
        paths = sorted(filter(wanted, find_images(folder)))
        random.Random(0).shuffle(paths)
        if folder == folders[0]:
            paths.sort(key=lambda path: path not in set(asked))
        with closing(EncoderStage(encoder, ImageRoot(folder))) as stage:
            for start in range(0, len(paths), 1024):
                some = paths[start : start + 1024]
                missing = [key.removeprefix(f"{folder}/") for key in cache.missing([f"{folder}/{p}" for p in some])]
                if missing:
                    for record in described(stage, missing):
                        cache.add(f"{folder}/{record.relative_path}", record)
                    cache.save()
        gallery += [one for path in paths if (one := cache.get(f"{folder}/{path}")) is not None]
    copies = []
    root = ImageRoot(folders[0])
    others = [path for path in sorted(filter(wanted, find_images(folders[0]))) if path not in set(asked)]
    for path in asked:
        if cache.missing([f"{edit} {path}" for edit in EDITS]):
            with tempfile.TemporaryDirectory() as name:
                files = copies_of(root, path, others or asked, Path(name))
                with closing(EncoderStage(encoder, ImageRoot(Path(name)))) as stage:
                    for edit, record in zip(EDITS, described(stage, files), strict=True):
                        cache.add(f"{edit} {path}", record)
        copies += [
            EditedCopy(path, edit, one, second_of(edit, path, others or asked) if edit in TWO_PHOTOS else "")
            for edit in EDITS
            if (one := cache.get(f"{edit} {path}")) is not None
        ]
    cache.save()
    return gallery, copies


def gather_plain(photos: PhotoSides, paths: Sequence[str], cache: Cache) -> tuple[list[Embedding], list[EditedCopy]]:
    """Describe plain pictures made of photos, and copies of them."""
    pairs = [pair for pair in plain(photos, paths, PLAIN_PHOTOS, 0) if pair.copy]
    pictures = {picture.name: picture for pair in pairs for picture in (pair.first, pair.second)}
    names = cache.missing(list(pictures))
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{number}.jpg" for number in range(len(names))]
        for file, name in zip(files, names, strict=True):
            pictures[name].make().save(Path(folder, file), quality=90)
        with closing(EncoderStage(Encoder.load(), ImageRoot(Path(folder)))) as stage:
            for name, record in zip(names, described(stage, files), strict=True):
                cache.add(name, replace(record, relative_path=name))
    cache.save()
    known = {name: one for name in pictures if (one := cache.get(name)) is not None}
    copies = [
        EditedCopy(pair.first.name, f"{PLAIN}{pair.name.split(', ')[0]}", known[pair.second.name]) for pair in pairs
    ]
    return [known[name] for name in dict.fromkeys(pair.first.name for pair in pairs)], copies


@click.command()
@click.option("--folder", "folders", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--among", multiple=True, type=int, default=(2_000, 4_000, 8_000, 12_000), show_default=True)
@click.option("--side", type=click.Choice(["fit", "report"]), default="report", show_default=True)
@click.option("--count", default=91, show_default=True, help="Photos to edit, at most.")
@click.option("--cache", type=click.Path(dir_okay=False, path_type=Path), help="A file to keep descriptions in.")
def main(folders: Sequence[Path], among: Sequence[int], side: str, count: int, cache: Path | None) -> None:
    chosen = list(folders) or ([SHARED, DISTRACTORS] if SHARED.is_dir() else [SAMPLES])
    photos = PhotoSides(chosen[0])
    asked = photos.sample("fit" if side == "fit" else "report", count, 0)
    if side == "report" and (apart := [path for path in asked if path.startswith(f"{HELD_OUT}/")]):
        asked = apart
    if side == "fit":
        gallery, copies = gather(chosen[:1], asked, Cache(cache), lambda path: photos.side_of(path) == "fit")
    else:
        gallery, copies = gather(chosen, asked, Cache(cache), lambda path: True)
    config, console, index = Config(), Console(width=150), Index()
    plain_gallery, plain_copies = gather_plain(photos, asked, Cache(cache))
    copies += plain_copies
    held = {one.relative_path: one for one in [*plain_gallery, *gallery]}
    gallery = list(held.values())
    sizes = sorted(
        {min(size, len(gallery)) for size in (*among, len(gallery)) if size >= len(asked) + len(plain_gallery)}
    )
    for size in sizes:
        for start in range(len(index), size, 512):
            change = index.change()
            for number in range(start, min(start + 512, size)):
                one = gallery[number]
                put_record(change, Received(one.relative_path, one, 0, number, 0))
            change.apply()
        title = f"{len(asked)} photos × {len(EDITS)} edits, among {size:,}: first, first 10, %"
        console.print(report(ask(index, copies, config), title, edits=size == sizes[-1]))
    console.print(f"{index.local.nbytes / len(index):,.0f} bytes of local codes an image")
    index.close()


if __name__ == "__main__":
    main()
