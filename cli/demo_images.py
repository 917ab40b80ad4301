"""Sample photos with planted copies, and the score of a job that looks for them."""

import io
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
from PIL import Image
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from imagetools.edits import EDITS
from imagetools.errors import ConfigError
from imagetools.grouping.connected import ConnectedImages

KINDS: Final = {
    "the same file": "",
    "re-encoded": "jpeg15",
    "resized": "quarter_size",
    "cropped to 60 %": "crop",
    "cropped to 40 %": "crop40",
    "mirrored": "flip_horizontal",
    "mirrored top to bottom": "flip_vertical",
    "turned 90°": "turn90",
    "turned 25°": "turn25",
    "stretched to a square": "square",
    "recoloured": "colour",
    "without colour": "grey",
    "blurred": "blur",
    "captioned": "caption",
    "partly covered": "patch",
    "padded": "padding",
    "pasted into a screenshot": "screenshot",
    "pasted into a collage": "collage",
}
"""Name of a kind of copy in the table → name of the edit."""

COPIES_OF_A_KIND: Final = 3

LOOKALIKES: Final = (
    ("14dff627", "ecc77e48"),
    ("0fc3fbae", "496cd909"),
    ("0b1cc7a6", "8b91668a"),
    ("60e4697b", "826a22c6"),
    ("c777dda3", "edb5ff7d"),
    ("f6fbf376", "7aefbf16"),
    ("5ddd23ad", "abaf68d7"),
)
"""Pairs of samples with different garments on the same ground; reporting one is an error."""

_FOLDERS: Final = ("", "phone", "shop/2023", "shop/2024", "from Zoë")


@dataclass(frozen=True)
class Copy:
    """One planted copy; paths are relative to the folder of images."""

    relative_path: str
    original: str
    kind: str


@dataclass(frozen=True)
class Plan:
    """Images that were written into a folder.

    originals   all photos, with and without copies
    lookalikes  pairs of originals that look alike and are no duplicates
    """

    originals: tuple[str, ...]
    copies: tuple[Copy, ...]
    lookalikes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Score:
    """The part of a plan that was found.

    found       by kind, the copies that true pairs join with their original, directly or over another copy of it
    true, false  distinct pairs reported, of one photo and of different photos
    """

    found: dict[str, tuple[Copy, ...]]
    missed: dict[str, tuple[Copy, ...]]
    true: frozenset[tuple[str, str]]
    false: frozenset[tuple[str, str]]


def prepare(folder: Path, *, seed: int = 7) -> Plan:
    """Write the samples and edited copies of them into an empty folder, and planted.json beside it.

    Names and folders are drawn without regard to what a file is. The same seed gives the same files.
    ConfigError if the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is not empty, and the demo's images need a folder of their own")
    rng = random.Random(seed)
    samples = dict(_samples())
    paired = {stem for pair in LOOKALIKES for stem in pair}
    # photos that fill up a collage are nowhere else in the folder: they would be duplicates themselves
    fillers = rng.sample([stem for stem in samples if stem not in paired], COPIES_OF_A_KIND)
    names = _names(rng)
    places: dict[str, str] = {}
    for stem, data in samples.items():
        if stem not in fillers:
            places[stem] = next(names) + ".jpg"
            _write(folder / places[stem], data)
    copies = tuple(_copies(folder, samples, places, fillers, names, rng))
    plan = Plan(tuple(places.values()), copies, tuple((places[a], places[b]) for a, b in LOOKALIKES))
    folder.with_name("planted.json").write_bytes(msgspec.json.format(msgspec.json.encode(asdict(plan)), indent=1))
    return plan


def measure(plan: Plan, pairs: Iterable[tuple[str, str]]) -> Score:
    """Compare reported pairs with the plan; each unordered pair counts once."""
    photo = {path: path for path in plan.originals} | {copy.relative_path: copy.original for copy in plan.copies}
    reported = {(min(pair), max(pair)) for pair in pairs}
    true = frozenset(pair for pair in reported if photo.get(pair[0], pair[0]) == photo.get(pair[1], pair[1]))
    groups = ConnectedImages(true)
    found: dict[str, tuple[Copy, ...]] = {}
    missed: dict[str, tuple[Copy, ...]] = {}
    for kind in KINDS:
        of_kind = [copy for copy in plan.copies if copy.kind == kind]
        found[kind] = tuple(copy for copy in of_kind if groups.connected(copy.relative_path, copy.original))
        missed[kind] = tuple(copy for copy in of_kind if copy not in found[kind])
    return Score(found, missed, true, frozenset(reported - true))


def as_numbers(plan: Plan, seen: Score) -> dict[str, int]:
    """Return the score as numbers, for programs."""
    return {
        "planted": len(plan.copies),
        "found": sum(map(len, seen.found.values())),
        "pairs": len(seen.true) + len(seen.false),
        "true pairs": len(seen.true),
        "look-alikes": len(plan.lookalikes),
        "look-alikes reported": sum(_sorted(pair) in seen.false for pair in plan.lookalikes),
    }


def score(plan: Plan, seen: Score) -> RenderableType:
    """Return the score to print: recall by kind of copy, precision, and errors by name."""
    table = Table("kind of copy", title="Planted copies", title_justify="left")
    for column in ("planted", "found", "recall"):
        table.add_column(column, justify="right")
    for kind, found in seen.found.items():
        _add_row(table, kind, len(found), len(found) + len(seen.missed[kind]))
    table.add_section()
    _add_row(table, "all", sum(map(len, seen.found.values())), len(plan.copies))
    pairs = len(seen.true) + len(seen.false)
    reported = sum(_sorted(pair) in seen.false for pair in plan.lookalikes)
    lines = [
        f"precision: {len(seen.true)} of {pairs} reported pairs show one photo" + _share(len(seen.true), pairs),
        f"look-alikes: {reported} of {len(plan.lookalikes)} pairs reported",
        *(f"missed: {c.relative_path} of {c.original}, {c.kind}" for copies in seen.missed.values() for c in copies),
        *(f"false alarm: {one} and {two}" for one, two in sorted(seen.false)),
    ]
    # Text, because a file's name may look like markup
    return Group(table, Text("\n".join(lines)))


def _samples() -> Iterator[tuple[str, bytes]]:
    """Yield name and JPEG of each photo that the package ships."""
    for file in sorted(resources.files("cli.samples").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".jpg"):
            yield file.name.removesuffix(".jpg"), file.read_bytes()


def _copies(
    folder: Path,
    samples: dict[str, bytes],
    places: dict[str, str],
    fillers: list[str],
    names: Iterator[str],
    rng: random.Random,
) -> Iterator[Copy]:
    """Write the copies, about the same number of each photo."""
    turn: list[str] = []
    for kind, edit in KINDS.items():
        for number in range(COPIES_OF_A_KIND):
            if not turn:
                turn = rng.sample(list(places), len(places))
            stem = turn.pop()
            data, suffix = samples[stem], ".jpg"
            if edit:
                other = _image(samples[fillers[number]]) if edit == "collage" else None
                data, suffix = _packed(EDITS[edit](_image(data), rng, other), rng)
            place = next(names) + suffix
            _write(folder / place, data)
            yield Copy(place, places[stem], kind)


def _image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _packed(image: Image.Image, rng: random.Random) -> tuple[bytes, str]:
    """Encode the image in one of the web's formats; return the bytes and the suffix."""
    format_name, suffix = rng.choice([("JPEG", ".jpg"), ("JPEG", ".jpg"), ("JPEG", ".jpeg"), ("WEBP", ".webp")])
    out = io.BytesIO()
    image.save(out, format_name, quality=rng.randrange(78, 93))
    return out.getvalue(), suffix


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _names(rng: random.Random) -> Iterator[str]:
    """Yield different paths like those of cameras, phones and people, without a suffix."""
    taken: set[str] = set()
    while True:
        number, day = (
            rng.randrange(10_000),
            f"{rng.choice((2023, 2024))}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}",
        )
        name = rng.choice(
            [
                f"IMG_{number:04}",
                f"DSC0{number:04}",
                f"IMG-{day}-WA{number % 100:04}",
                f"{day}_{rng.randrange(6, 23):02}{rng.randrange(60):02}{rng.randrange(60):02}",
                f"photo ({number % 200 + 1})",
                f"{rng.randrange(1 << 32):08x}",
            ]
        )
        path = str(PurePosixPath(rng.choice(_FOLDERS), name))
        if path not in taken:
            taken.add(path)
            yield path


def _add_row(table: Table, kind: str, found: int, planted: int) -> None:
    recall = f"{found / planted:.0%}" if planted else "–"
    table.add_row(kind, str(planted), str(found), recall, style="" if found == planted else "yellow")


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.1%})" if whole else ""


def _sorted(pair: tuple[str, str]) -> tuple[str, str]:
    return min(pair), max(pair)
