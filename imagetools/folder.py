"""List the images of a folder, and report everything else in it."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.formats import IMAGE_SUFFIXES, SIGNATURE_BYTES, begins_like_an_image
from imagetools.paths import require_path, require_utf8, shown

log = logging.getLogger(__name__)

REPORT_FILES: Final = "report-files"
"""Folder beside a report's page that holds its thumbnails."""

REPORT_MARK: Final = ".imagetools-report"
"""File in it that marks it as ours: its pictures are copies, and not searched."""

REPORT_DATA: Final = (
    "groups.jsonl", "groups.csv", "extras.txt", "decisions.jsonl", "alerts.jsonl", "similar.jsonl",
    "dead-letters.jsonl", "not-looked-at.jsonl", "summary.json",
)  # fmt: skip
"""Files of a report for programs."""

BESIDE_THUMBNAILS: Final = frozenset({"report.html", *REPORT_DATA})
"""Files of a report, beside its thumbnails."""

MAX_LISTED: Final = 10_000
"""Entries that a tally keeps; of more, only the number, so that a folder of any size fits into memory."""


HIDDEN: Final = "hidden"
NO_EXTENSION: Final = "without extension"
UNUSABLE_NAME: Final = "with an unusable name"
LEADS_OUT: Final = "outside by a link"
UNLISTABLE: Final = "unlistable"
EARLIER_REPORT: Final = "of earlier reports"
NO_IMAGE: Final = "not images"
"""Kinds of entries that are not looked at, as a summary counts them; formats that are not read count by name."""


@dataclass(frozen=True)
class Skipped:
    """An entry of a folder that is not looked at.

    path    relative to the folder; a name that is not UTF-8 has surrogates in it
    kind    one of the words above, or a format: SVG
    reason  why, and what can be done about it
    """

    path: str
    kind: str
    reason: str

    @property
    def name(self) -> str:
        """The path, fit for a message."""
        return shown(self.path)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass
class Tally:
    """Counts entries that are not looked at, and keeps the first of them.

    listed  entries worth a name: all but files that are no images
    """

    counts: Counter[str] = field(default_factory=Counter)
    listed: list[Skipped] = field(default_factory=list)

    def add(self, skipped: Skipped) -> None:
        """Count an entry; fits `find_images(on_skipped=…)`."""
        self.counts[skipped.kind] += 1
        if skipped.kind != NO_IMAGE and len(self.listed) < MAX_LISTED:
            self.listed.append(skipped)

    @property
    def unlisted(self) -> int:
        """How many are counted but not listed, apart from files that are no images."""
        return self.counts.total() - self.counts[NO_IMAGE] - len(self.listed)

    @property
    def words(self) -> str:
        """The counts in words, files that are no images last; empty where there are none."""
        kinds = sorted(self.counts, key=lambda kind: (kind == NO_IMAGE, -self.counts[kind], kind))
        return ", ".join(_counted(self.counts[kind], kind) for kind in kinds)

    def __str__(self) -> str:
        return f"not looked at: {self.words}"


def _counted(count: int, kind: str) -> str:
    return "1 not an image" if (count, kind) == (1, NO_IMAGE) else f"{count:,} {kind}"


_NAMES: Final = {
    suffix: name
    for suffixes, name in {
        ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef": "camera raw",
        ".raf .raw .rw2 .rwl .sr2 .srf .srw .x3f": "camera raw",
        ".svg .svgz": "SVG", ".pdf": "PDF", ".ai": "Illustrator", ".eps .ps": "PostScript", ".wmf .emf": "WMF",
        ".psd .psb": "Photoshop", ".xcf": "GIMP", ".kra": "Krita", ".indd": "InDesign", ".afphoto": "Affinity",
        ".jp2 .j2k .jpf .jpx .j2c .jpc": "JPEG 2000", ".jxl": "JPEG XL", ".jxr .wdp .hdp": "JPEG XR",
        ".jls": "JPEG-LS", ".ico .cur .icns": "icon", ".pbm .pgm .ppm .pnm .pam .pfm": "Netpbm", ".tga": "TGA",
        ".pcx": "PCX", ".xbm .xpm": "X11", ".exr": "OpenEXR", ".hdr": "Radiance", ".dds": "DDS", ".sgi": "SGI",
        ".qoi": "QOI", ".flif": "FLIF", ".bpg": "BPG", ".dcm": "DICOM", ".fits .fit": "FITS", ".djvu": "DjVu",
        ".dib": "DIB",
    }.items()
    for suffix in suffixes.split()
}  # fmt: skip
"""Endings of image files that are not read → name of the format."""


def format_not_read(path: str) -> str | None:
    """Return the name of a format that is not read, by the path's ending, such as "PDF"; None for other endings."""
    return _NAMES.get(os.path.splitext(path)[1].lower())


def find_images(folder: Path, *, on_skipped: Callable[[Skipped], None] | None = None) -> Iterator[str]:
    """Yield every image below a folder: relative paths with /, sorted folder by folder.

    An image is known by the ending of its name; a file without one, as browsers and messengers save them, by its first
    bytes. Links to folders are not followed: their images are found where they lie.
    on_skipped  called once for each entry that is not looked at: hidden files and folders (with a leading dot), formats
                that are not read, names that fit no message, links that lead out, folders that cannot be listed,
                thumbnails of reports, and files that are no images; by default what cannot be reached is logged
    ImageRootUnavailable where the folder itself cannot be listed.
    """
    root = os.path.realpath(folder)
    skip = on_skipped or _warn
    waiting = [_listed(root, folder)]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        path = Path(entry.path).relative_to(root).as_posix()
        try:
            found = _classify(entry, root, path)
            if found == _FOLDER:
                waiting.append(_listed(entry.path, None))
        except OSError as exc:
            found = Skipped(path, UNLISTABLE, f"cannot be listed: {exc.strerror}")
        if isinstance(found, Skipped):
            skip(found)
        elif found == _IMAGE:
            yield path


def _warn(skipped: Skipped) -> None:
    if skipped.kind in (UNUSABLE_NAME, LEADS_OUT, UNLISTABLE):
        log.warning("left out: %s", skipped)


_FOLDER, _IMAGE, _FOUND_ELSEWHERE = "folder", "image", "found elsewhere"


def _classify(entry: os.DirEntry[str], root: str, path: str) -> Skipped | str:
    """Return what an entry is: one of the three words above, or something to skip."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if entry.name.startswith("."):
        return skipped_as_hidden(path, suffix in IMAGE_SUFFIXES or entry.is_dir(follow_symlinks=False))
    if entry.is_dir(follow_symlinks=False):
        if os.path.lexists(os.path.join(entry.path, REPORT_MARK)):
            return Skipped(path, EARLIER_REPORT, "thumbnails of an earlier report")
        return _FOLDER
    if entry.is_symlink() and (found := _classify_link(entry, suffix, root, path)):
        return found
    return _classify_file(entry, path)


def skipped_as_hidden(path: str, worth_a_name: bool) -> Skipped:
    """Return how something counts whose name begins with a dot; worth_a_name: it is an image or a folder."""
    if worth_a_name:
        return Skipped(path, HIDDEN, "hidden: its name begins with a dot")
    return Skipped(path, NO_IMAGE, "no image")


def _classify_link(entry: os.DirEntry[str], suffix: str, root: str, path: str) -> Skipped | str:
    """As `_classify`; empty where the link counts as a file of the folder."""
    to_folder = os.path.isdir(entry.path)
    wanted = to_folder or not suffix or suffix in IMAGE_SUFFIXES
    if wanted and os.path.commonpath((root, os.path.realpath(entry.path))) != root:
        return Skipped(path, LEADS_OUT, "leads out of the folder of images through a symbolic link")
    return _FOUND_ELSEWHERE if to_folder else ""


def _classify_file(entry: os.DirEntry[str], path: str) -> Skipped | str:
    if entry.name in BESIDE_THUMBNAILS and _is_report(os.path.dirname(entry.path)):
        return _FOUND_ELSEWHERE
    return skipped_by_name(path, lambda: _why_no_image(entry)) or _IMAGE


def skipped_by_name(path: str, why_no_image: Callable[[], str]) -> Skipped | None:
    """Return why a file is not looked at, by its name; None for an image.

    why_no_image  asked about a file without an extension; returns an empty text where it begins like an image
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _NAMES:
        name = _NAMES[suffix]
        return Skipped(path, name, f"{name} is not read; export it as JPEG, PNG or TIFF to have it looked at")
    if suffix and suffix not in IMAGE_SUFFIXES:
        return Skipped(path, NO_IMAGE, "no image")
    if not suffix and (reason := why_no_image()):
        return Skipped(path, NO_EXTENSION, reason)
    try:
        require_path(shown(path), path)
        require_utf8(path)
    except ImageError as exc:
        return Skipped(path, UNUSABLE_NAME, exc.reason)
    return None


def _why_no_image(entry: os.DirEntry[str]) -> str:
    """Return why a file without an extension is no image; empty where it begins like one."""
    if not entry.is_file():
        return "is no file, or a link that leads nowhere"
    try:
        # O_NONBLOCK: opening a pipe would wait for its other end
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            head = os.read(descriptor, SIGNATURE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as exc:
        return f"has no extension, and its first bytes cannot be read: {exc.strerror}"
    return why_no_image(head)


def why_no_image(head: bytes) -> str:
    """Return why a file without an extension is no image, by its first SIGNATURE_BYTES; empty where it may be one."""
    return "" if begins_like_an_image(head) else "has no extension, and does not begin like an image that is read"


def _is_report(folder: str) -> bool:
    return os.path.lexists(os.path.join(folder, REPORT_FILES, REPORT_MARK))


def _listed(path: str, root: Path | None) -> Iterator[os.DirEntry[str]]:
    """Return the entries of a folder, sorted. ImageRootUnavailable for the root, OSError for a folder in it."""
    try:
        with os.scandir(path) as entries:
            return iter(sorted(entries, key=_in_bytes))
    except OSError as exc:
        if root is not None:
            raise ImageRootUnavailable(f"the folder of images {root}: {exc.strerror}") from exc
        raise


def _in_bytes(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name)
