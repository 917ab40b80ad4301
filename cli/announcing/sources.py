"""The images to announce: those of a folder, one, or those that lines name, relative to the service's root."""

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from cli.announcing.store_sources import StorePaths
from imagetools.errors import ConfigError, ImageToolsError, OutsideRoot
from imagetools.folder import Skipped, find_images, format_not_read
from imagetools.formats import IMAGE_SUFFIXES
from imagetools.image_root import ImageRoot
from imagetools.paths import require_path, require_utf8, shown
from imagetools.places import is_address, parse_place
from schemas.metadata import metadata_problem
from schemas.records import StageState

ANOTHER = "--images-dir names another"
IMAGES_READER = "encoder"

JSON_LINE: Final = re.compile(rb'\s*\{\s*"')
"""How a line of JSON begins; any other line is a path."""

BRIEF_CHARS: Final = 20
"""How many characters an error shows of a line that names no image."""

NO_METADATA: Final[Mapping[str, str]] = {}


class NoSuchSource(ImageToolsError):
    """There is nothing to announce there."""


class BadLine(ImageToolsError):
    """A line of JSON that names no image, or metadata that cannot be."""


class NamedImage(NamedTuple):
    """An image to announce.

    path  relative to the service's root
    """

    path: str
    metadata: Mapping[str, str] = NO_METADATA


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    relative_path: str
    metadata: dict[str, str] = {}


def root_of(given: str | None, states: Iterable[StageState]) -> Path | str | None:
    """Return the folder or store that the service's paths are relative to.

    None if no setting names it, and no process that sees the same: one on this machine, or one that reads from a store.

    given  IMAGES_DIR, if it is set
    ConfigError if it is no folder, or not the place of the encoder.
    """
    here = sorted({parse_place(state.images_dir) for state in states if _is_here(state)}, key=str)
    if given:
        root = _parsed(given)
        if isinstance(root, Path) and not root.is_dir():
            raise ConfigError(f"IMAGES_DIR is {root}: no such folder; name the service's with --images-dir")
        if here and _real_place(root) not in map(_real_place, here):
            raise ConfigError(
                f"IMAGES_DIR is {root}, and the encoder here reads from {here[0]}: leave --images-dir out to use that"
            )
        return root
    if len(set(map(_real_place, here))) > 1:
        raise ConfigError(
            f"the encoders here read from {' and '.join(map(str, here))}: say which is meant with --images-dir"
        )
    return here[0] if here else None


def _parsed(given: str) -> Path | str:
    try:
        return parse_place(given)
    except ValueError as exc:
        raise ConfigError(f"IMAGES_DIR is {given!r}: {exc}") from exc


def _real_place(place: Path | str) -> Path | str:
    return place.resolve() if isinstance(place, Path) else place


def _is_here(state: StageState) -> bool:
    """Return whether an encoder reads from a place that is the same here."""
    if state.stage != IMAGES_READER or not state.images_dir:
        return False
    return is_address(state.images_dir) or (state.host == socket.gethostname() and Path(state.images_dir).is_dir())


@dataclass(frozen=True)
class Sources:
    """Turns the names that users give into paths relative to the service's root.

    root      the service's; None: unknown here, paths are used as they are
    gone      the images were removed: their files need not be there
    metadata  of all images; a line's own overrides it, name by name
    private   a store may be a web server at a private address
    """

    root: Path | str | None
    gone: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    private: bool = False

    def paths(
        self,
        source: str,
        *,
        on_refused: Callable[[ImageToolsError], None],
        on_skipped: Callable[[Skipped], None] | None = None,
        on_list: Callable[[], None] = lambda: None,
    ) -> Iterator[NamedImage]:
        """Yield a folder's images, one image, or those that a text file names, as `lines` reads it.

        on_refused  called with each line that cannot be announced
        on_skipped  called with everything in a folder that is not announced; as in `find_images`
        on_list     called when the source is read as a text file that names images, before the first of them
        NoSuchSource or OutsideRoot if the source itself cannot.
        """
        if (self.store is not None and self.store.is_image(source)) or is_address(source):
            return self._in_store(source, on_skipped)
        place = self._found(source)
        if place is not None and place.is_dir():
            if self.store is not None:
                raise OutsideRoot(shown(source), f"is a folder here, and the service's images are in {self.root}")
            return (NamedImage(path, self.metadata) for path in self._folder(place, on_skipped))
        if os.path.splitext(source)[1].lower() in IMAGE_SUFFIXES and (place is not None or self.gone):
            return iter([NamedImage(self._relative(source, ("", self._top)), self.metadata)])
        if place is None and self.store is not None and (address := self.store.address_of(source)):
            return self._in_store(address, on_skipped)
        if place is None:
            looked = f", neither here nor in {self.root}" if self.root and not os.path.isabs(source) else ""
            raise NoSuchSource(f"{shown(source)}: no such file or folder{looked}")
        if name := format_not_read(source):
            raise NoSuchSource(f"{shown(source)}: {name} is not read; convert it to JPEG or PNG")
        try:
            lines = place.read_bytes().splitlines()
        except OSError as exc:
            raise NoSuchSource(f"{shown(source)}: {exc.strerror}") from exc
        if any(b"\0" in line for line in lines[:100]):
            raise NoSuchSource(
                f"{shown(source)}: neither an image, by its name's ending, nor a text file with a path on each line"
            )
        on_list()
        return self.lines(lines, on_refused=on_refused)

    def lines(self, lines: Iterable[bytes], *, on_refused: Callable[[ImageToolsError], None]) -> Iterator[NamedImage]:
        """Yield the image that each line names: a path, or JSON with relative_path and metadata; skip empty lines."""
        for line in lines:
            if not (text := line.rstrip(b"\r\n")):
                continue
            try:
                yield self._named(text)
            except ImageToolsError as exc:
                on_refused(exc)

    def _named(self, line: bytes) -> NamedImage:
        """Return the image that a line names. BadLine, and as `_relative`."""
        bases = self._top, ""
        if not JSON_LINE.match(line):
            return NamedImage(self._relative(os.fsdecode(line), bases), self.metadata)
        try:
            read = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            form = '{"relative_path": "a.jpg", "metadata": {"name": "value"}}'
            raise BadLine(f"{_brief(os.fsdecode(line))}: {exc}; a line of JSON is {form}") from exc
        metadata = {**self.metadata, **read.metadata}
        if not self.gone and (problem := metadata_problem(metadata)):
            raise BadLine(f"{shown(read.relative_path)}: metadata: {problem}")
        return NamedImage(self._relative(read.relative_path, bases), metadata)

    @cached_property
    def store(self) -> StorePaths | None:
        """What knows the paths in the service's store; None where its images are in a folder. ConfigError."""
        if not isinstance(self.root, str):
            return None
        return StorePaths(self.root, gone=self.gone, private=self.private)

    def _in_store(self, source: str, on_skipped: Callable[[Skipped], None] | None) -> Iterator[NamedImage]:
        """Yield one image of a store, or all below an address."""
        store = self.store
        if store is None and self.root is not None:
            raise NoSuchSource(f"{shown(source)}: the service's images are in the folder {self.root}; {ANOTHER}")
        if store is None:
            # as for a folder: relative to the source itself
            store = StorePaths(str(_parsed(source)), private=self.private)
        if store.is_image(source):
            return iter([NamedImage(store.relative(source), self.metadata)])
        return (NamedImage(path, self.metadata) for path in store.listed(source, on_skipped))

    @property
    def _top(self) -> str:
        return os.path.realpath(self.root) if isinstance(self.root, Path) else ""

    def _found(self, source: str) -> Path | None:
        """Return the source's place, relative to the current folder or else to the root."""
        places = (Path(source), Path(self._top, source))
        return next((place for place in places if os.path.lexists(place)), None)

    def _folder(self, place: Path, on_skipped: Callable[[Skipped], None] | None) -> Iterator[str]:
        if self.root is None:
            return find_images(place, on_skipped=on_skipped)
        inside = _inside(os.path.realpath(place), self._top)
        if inside is None:
            raise OutsideRoot(shown(str(place)), f"is outside the service's folder of images, {self.root}; {ANOTHER}")
        return (os.path.normpath(os.path.join(inside, path)) for path in find_images(place, on_skipped=on_skipped))

    def _relative(self, text: str, bases: Sequence[str]) -> str:
        """Return the path relative to the root. `bases`: folders that it may be relative to, the likelier first."""
        require_utf8(text)
        if self.store is not None:
            return self.store.relative(text)
        if self.root is None:
            if os.path.isabs(text):
                raise OutsideRoot(
                    _brief(text), "is an absolute path, and the service's folder of images is not known here: name it "
                    "with --images-dir"
                )  # fmt: skip
            require_path(_brief(text), text)
            return text
        place = self._place(text, bases)
        if place is None:
            where = f"neither here nor in the service's folder of images, {self.root}; {ANOTHER}"
            raise NoSuchSource(f"{_brief(text)}: no such file, {where}")
        inside = _inside(os.path.join(_real(os.path.dirname(place)), os.path.basename(place)), self._top)
        if inside is None or inside == ".":
            raise OutsideRoot(_brief(text), f"is outside the service's folder of images, {self.root}; {ANOTHER}")
        if not self.gone:
            ImageRoot(self.root).status(inside)
        return inside

    def _place(self, text: str, bases: Sequence[str]) -> str | None:
        places = [os.path.abspath(os.path.join(base, text)) for base in dict.fromkeys(bases)]
        found = next((place for place in places if os.path.lexists(place)), None)
        if found is not None or not self.gone:
            return found
        # the file is gone: a path whose folder exists is more likely
        likely = (place for place in places if _folder_there(os.path.dirname(place)) and _inside(place, self._top))
        return next(likely, os.path.abspath(os.path.join(self._top, text)))


def _brief(text: str) -> str:
    """Return a path fit for a message; of what has no image's name, the beginning: it may be a line of any file."""
    cut = len(text) > BRIEF_CHARS and os.path.splitext(text)[1].lower() not in IMAGE_SUFFIXES
    return f"{shown(text[:BRIEF_CHARS])}…" if cut else shown(text)


@lru_cache(4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


@lru_cache(4096)
def _folder_there(folder: str) -> bool:
    return os.path.isdir(folder)


def _inside(place: str, top: str) -> str | None:
    """Return the place relative to the folder `top`; None if it is outside."""
    relative = os.path.relpath(place, top)
    return None if relative == ".." or relative.startswith("../") else relative
