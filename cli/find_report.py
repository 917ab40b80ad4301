"""The results of `imagetools find`: lines on the console, and the report."""

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from cli.alerts import as_text
from cli.find_results import FindResults, Links, Totals, totals
from cli.json_lines import json_line
from cli.report import write_report
from imagetools.errors import CannotWrite
from imagetools.folder import Tally
from imagetools.image_root import ImageRoot
from imagetools.paths import printable, shown
from schemas.alert_json import alert_fields, similar_fields
from schemas.records import Duplicates, Similar
from streams.kafka.follower import ConsumedMessage


@dataclass
class FindJob:
    """One run over a folder, and the place of its results.

    report         the report's folder; None: write no report
    not_looked_at  what the folder holds besides the announced images
    """

    folder: Path
    report: Path | None
    results: FindResults
    not_looked_at: Tally
    console: Console
    links: Links = field(init=False)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.links = Links(self.folder)

    def take(self, seen: ConsumedMessage) -> None:
        """Count one message, and print it if it is an alert."""
        self.results.take(seen)
        if isinstance(seen.record, Duplicates):
            for line in as_text(seen.record, self.links.edit):
                self.console.print(Text(line), soft_wrap=True)

    def finish(self, ended: str) -> None:
        """Print the summary, and write the report.

        ended  why the job ends early; empty if it does not, ignored if all verdicts have arrived
        CannotWrite if the report cannot be written.
        """
        took = time.monotonic() - self.began
        ended = "" if self.results.done else ended
        if ended and not self.results.verdicts:
            self._say(f"{_sentence(ended)} before any image was done: everything is stopped, no report was written")
            return
        sums = totals(self.results, self.links)
        self._say(_summary(sums, took, ended))
        if self.not_looked_at.counts:
            self._say(str(self.not_looked_at))
        if self.report is None:
            return
        try:
            _write(self.report, self, sums, took, ended)
        except OSError as exc:
            raise CannotWrite(f"the report in {shown(str(self.report))} cannot be written: {exc.strerror}") from exc
        self._say(f"{'Report of what is done' if ended else 'Report'}: {self.report / 'report.html'}")

    def _say(self, text: str) -> None:
        self.console.print(Text(printable(text)), soft_wrap=True)


def _summary(sums: Totals, took: float, ended: str) -> str:
    head = _how_far(sums, ended) or ("1 image" if sums.images == 1 else f"{sums.images:,} images")
    pairs = "1 pair" if sums.pairs == 1 else f"{sums.pairs:,} pairs"
    same_file = f"{sums.same_file:,} the same file by a link, " if sums.same_file else ""
    return (
        f"{head} in {took:.1f} s: {sums.duplicates:,} duplicate earlier ones ({pairs}), "
        f"{sums.clear:,} clear, {same_file}{sums.dead_letters:,} could not be read{_alike(sums)}"
    )


def _alike(sums: Totals) -> str:
    if not sums.alike:
        return ""
    pairs = "1 pair is" if sums.alike == 1 else f"{sums.alike:,} pairs are"
    return f"; {pairs} alike, and no duplicates"


def _how_far(sums: Totals, ended: str) -> str:
    return f"{_sentence(ended)}: {sums.done:,} of {sums.images:,} images were done" if ended else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _write(report: Path, job: FindJob, sums: Totals, took: float, ended: str) -> None:
    alerts = [_with_links(alert, job.links) for alert in sorted(job.results.alerts, key=lambda alert: alert.candidate)]
    _write_lines(report / "alerts.jsonl", alerts)
    similar = [{"candidate": path, **similar_fields(one)} for path, one in sorted(job.results.similar, key=_by_path)]
    _write_lines(report / "similar.jsonl", similar)
    _write_lines(report / "dead-letters.jsonl", job.results.dead_letters)
    tally = job.not_looked_at
    _write_lines(
        report / "not-looked-at.jsonl",
        ({"relative_path": _as_unicode(one.path), "kind": one.kind, "reason": one.reason} for one in tally.listed),
    )
    stats: dict[str, Any] = {
        "images": f"{sums.done:,} of {sums.images:,}" if ended else sums.images,
        "pairs": sums.pairs,
        **({"pairs alike, and no duplicates": sums.alike} if sums.alike else {}),
        **({"the same file by a link": sums.same_file} if sums.same_file else {}),
        "dead letters": len(job.results.dead_letters),
        "not looked at": tally.counts.total(),
        "seconds": round(took, 1),
    }
    folder = shown(str(job.folder))
    write_report(
        report,
        alerts,
        ImageRoot(job.folder),
        title=f"Partial: duplicates in {folder}" if ended else f"Duplicates in {folder}",
        stats=stats,
        ended=_how_far(sums, ended),
        not_looked_at=tally,
        similar=similar,
        similar_count=sums.alike,
    )
    summary = {
        "complete": not ended,
        "ended": ended or None,
        **asdict(sums),
        "seconds": round(took, 1),
        "not_looked_at": dict(tally.counts),
        "not_listed": tally.unlisted,
    }
    _replace(report / "summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")


def _by_path(pair: tuple[str, Similar]) -> tuple[str, str]:
    return pair[0], pair[1].relative_path


def _with_links(alert: Duplicates, links: Links) -> dict[str, Any]:
    """Return the alert's JSON with `same_file` in each pair, so that nobody deletes a file as its own copy."""
    plain = alert_fields(alert)
    for duplicate in plain["duplicated"]:
        edit = links.edit(alert.candidate, duplicate["relative_path"])
        duplicate["same_file"] = bool(edit)
        duplicate["edit"] = edit or duplicate["edit"]
    return plain


def _write_lines(file: Path, records: Iterable[object]) -> None:
    _replace(file, b"".join(map(json_line, records)))


def _replace(file: Path, data: bytes) -> None:
    """Write the file completely or not at all."""
    draft = file.with_name(f".{file.name}.part")
    draft.write_bytes(data)
    os.replace(draft, file)


def _as_unicode(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
