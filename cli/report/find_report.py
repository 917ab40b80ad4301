"""The results of `imagetools find`: lines on the console, and the report."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from cli.alerts import as_text
from cli.decisions import Decided, PairDecision, decision_fields
from cli.file_contents import FileContents
from cli.find_results import FindResults, Links, Totals, totals
from cli.json_lines import json_line
from cli.output_checks import make_report_files
from cli.report.alike import SHOWN_SETS, alike_sets, paths_of
from cli.report.file_looks import look_at_all
from cli.report.found_groups import Pair, count_groups, describe_groups, evidence_by_pair
from cli.report.group_alerts import StoppableComparer, group_alerts
from cli.report.group_files import EXTRAS, GROUPS_CSV, GROUPS_JSON, as_csv, extras, group_fields
from cli.report.matched_frames import MatchedFrames, matched_frames, with_frames
from cli.report.pages import ReportContents, write_report
from cli.report.unreadable import as_lines, unreadable
from cli.slow_progress import SlowProgress
from imagetools.errors import CannotWrite, ConfigError
from imagetools.features.cache import FeatureCache
from imagetools.features.store import FeatureStore
from imagetools.folder import Tally
from imagetools.grouping.grouping import Grouping
from imagetools.grouping.keep import KEEP_ORDER
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from imagetools.paths import printable, shown
from schemas.alert_json import alert_fields, similar_fields
from schemas.records import Duplicates, Similar
from streams.grouping.announced_files import AnnouncedFiles
from streams.grouping.pair_comparer import PairComparer, relation_of_duplicate
from streams.kafka.follower import ConsumedMessage


@dataclass
class FindJob:
    """One run over a folder or a store, and the place of its results.

    place          of the images: a folder, or the address of a store
    report         the report's folder; None: write no report
    not_looked_at  what the folder holds besides the announced images
    paths          the announced images, in the order in which groups see them
    decisions      a person's, from a file
    matcher        compares the pairs that the groups need and no alert tells of
    keep_order     what matters for the image to keep, in that order
    open_store     opens the store that has the stages' features
    stopped        whether a person has asked to end the work: no more pairs are compared then
    """

    place: Path | str
    report: Path | None
    results: FindResults
    not_looked_at: Tally
    console: Console
    paths: Sequence[str] = ()
    decisions: Sequence[PairDecision] = ()
    matcher: MatcherConfig = field(default_factory=MatcherConfig)
    keep_order: Sequence[str] = KEEP_ORDER
    open_store: Callable[[], FeatureStore | None] = lambda: None
    stopped: Callable[[], bool] = lambda: False
    links: Links = field(init=False)
    images: ImageRoot = field(init=False)
    contents: FileContents = field(init=False)
    decided: Decided = field(init=False)
    frames: dict[Pair, MatchedFrames] = field(init=False, default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.images = ImageRoot(self.place)
        self.links = Links(self.images.folder)
        self.contents = FileContents(self.images)
        self.decided = Decided(self.decisions, self.contents)
        self.results.undecided = self.decided.undecided

    def take(self, seen: ConsumedMessage) -> None:
        """Count one message, and print it if it is an alert."""
        before = len(self.results.alerts)
        self.results.take(seen)
        for alert in self.results.alerts[before:]:
            for line in as_text(alert, self.links.edit):
                self.console.print(Text(line), soft_wrap=True)

    def finish(self, ended: str) -> None:
        """Print the summary, and write the report.

        ended  why the job ends early; empty if it does not, ignored if all verdicts have arrived
        CannotWrite if the report cannot be written.
        """
        took = time.monotonic() - self.began
        ended = "" if self.results.done else ended
        if ended and not self.results.verdicts:
            self.say(f"{_sentence(ended)} before any image was done: everything is stopped, no report was written")
            return
        sums = totals(self.results, self.links)
        grouping, skipped = self._group()
        if skipped:
            ended = ended or "interrupted while pairs were compared for the groups"
        self.say(_summary(sums, count_groups(grouping, self.images.folder), took, ended))
        if skipped:
            pairs = "1 pair was" if skipped == 1 else f"{skipped:,} pairs were"
            self.say(f"{pairs} not compared for the groups, so that a group may lack some of its images")
        if self.not_looked_at.counts:
            self.say(str(self.not_looked_at))
        for line in as_lines(unreadable(self.results.dead_letters), self.report):
            self.say(line)
        if self.report is None:
            return
        try:
            _write(self.report, self, grouping, sums, took, ended)
        except OSError as exc:
            raise CannotWrite(f"the report in {shown(str(self.report))} cannot be written: {exc.strerror}") from exc
        self.say(f"{'Report of what is done' if ended else 'Report'}: {self.report / 'report.html'}")

    def _group(self) -> tuple[Grouping, int]:
        """Return the groups, and how many pairs were not compared for them."""
        progress = SlowProgress(self.say)
        places = {path: place for place, path in enumerate(self.paths)}
        store = self._open_store()
        try:
            cache = FeatureCache(self.matcher, store=store)
            # the stages' store has features by the real folder
            images = ImageRoot(self.place.resolve()) if isinstance(self.place, Path) else self.images
            compare = PairComparer(AnnouncedFiles(images), self.matcher, cache)
            comparer = StoppableComparer(compare, progress, self.stopped)
            alerts = self.results.alerts
            grouping = group_alerts(alerts, self.contents, self.decided, places, comparer, progress)
            if self.report is not None:
                self.frames = matched_frames(alerts, images, self.matcher, cache, self.stopped)
            return grouping, comparer.skipped
        finally:
            if store is not None:
                store.close()

    def _open_store(self) -> FeatureStore | None:
        try:
            return self.open_store()
        except ConfigError as exc:
            self.say(f"the grouping computes features itself: {exc}")
            return None

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(Text(printable(text)), soft_wrap=True)


def _summary(sums: Totals, groups: int, took: float, ended: str) -> str:
    head = _how_far(sums, ended) or ("1 image" if sums.images == 1 else f"{sums.images:,} images")
    pairs = "1 pair" if sums.pairs == 1 else f"{sums.pairs:,} pairs"
    if groups:
        pairs += ", 1 group" if groups == 1 else f", {groups:,} groups"
    same_file = f"{sums.same_file:,} the same file by a link, " if sums.same_file else ""
    return (
        f"{head} in {took:.1f} s: {sums.duplicates:,} duplicate earlier ones ({pairs}), "
        f"{sums.clear:,} clear, {same_file}{sums.dead_letters:,} could not be read{_alike(sums)}{_denied(sums)}"
    )


def _alike(sums: Totals) -> str:
    if not sums.alike:
        return ""
    pairs = "1 pair is" if sums.alike == 1 else f"{sums.alike:,} pairs are"
    return f"; {pairs} alike, and no duplicates"


def _denied(sums: Totals) -> str:
    if not sums.denied:
        return ""
    pairs = "1 pair is" if sums.denied == 1 else f"{sums.denied:,} pairs are"
    return f"; {pairs} left out by your decisions"


def _how_far(sums: Totals, ended: str) -> str:
    return f"{_sentence(ended)}: {sums.done:,} of {sums.images:,} images were done" if ended else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _write(report: Path, job: FindJob, grouping: Grouping, sums: Totals, took: float, ended: str) -> None:
    alerts = [_with_links(alert, job.links) for alert in sorted(job.results.alerts, key=lambda alert: alert.candidate)]
    _write_lines(report / "alerts.jsonl", alerts)
    similar = [{"candidate": path, **similar_fields(one)} for path, one in sorted(job.results.similar, key=_by_path)]
    _write_lines(report / "similar.jsonl", similar)
    _write_lines(report / "dead-letters.jsonl", job.results.dead_letters)
    _write_lines(report / "decisions.jsonl", map(decision_fields, job.decided.for_next_run()))
    tally = job.not_looked_at
    _write_lines(
        report / "not-looked-at.jsonl",
        ({"relative_path": _as_unicode(one.path), "kind": one.kind, "reason": one.reason} for one in tally.listed),
    )
    stats: dict[str, Any] = {
        "images": f"{sums.done:,} of {sums.images:,}" if ended else sums.images,
        "pairs": sums.pairs,
        **({"pairs alike, and no duplicates": sums.alike} if sums.alike else {}),
        **({"pairs left out by your decisions": sums.denied} if sums.denied else {}),
        **({"the same file by a link": sums.same_file} if sums.same_file else {}),
        "could not be read": sums.dead_letters,
        "not looked at": tally.counts.total(),
        "seconds": round(took, 1),
    }
    evidence: Mapping[Pair, Mapping[str, Any]] = evidence_by_pair(alerts)
    alike = alike_sets(similar)
    paths = [member.image.path for group in grouping.groups() for member in group.members]
    make_report_files(report)
    looks = look_at_all(report, job.images, dict.fromkeys([*paths, *paths_of(alike[:SHOWN_SETS])]))
    evidence, frames = with_frames(evidence, job.frames, report, job.images)
    groups = describe_groups(grouping, evidence, looks, job.images.folder, job.keep_order)
    _write_lines(report / GROUPS_JSON, map(group_fields, groups))
    _replace(report / GROUPS_CSV, as_csv(groups))
    lines, left_out = extras(groups)
    _replace(report / EXTRAS, lines)
    if left_out:
        paths_are = "1 path with a line break is" if left_out == 1 else f"{left_out:,} paths with a line break are"
        job.say(f"{paths_are} not in {EXTRAS}; {GROUPS_JSON} has {'it' if left_out == 1 else 'them'}")
    place = shown(job.images.name)
    write_report(
        report,
        job.images.folder,
        ReportContents(
            f"Partial: duplicates in {place}" if ended else f"Duplicates in {place}",
            groups,
            evidence,
            looks,
            stats,
            ended=_how_far(sums, ended),
            not_looked_at=tally,
            unreadable=unreadable(job.results.dead_letters),
            alike=alike,
            alike_count=sums.alike,
            alike_kept=len(similar),
            models=sorted({alert.model for alert in job.results.alerts if alert.model}),
            thresholds=sorted({alert.threshold for alert in job.results.alerts}),
            frames=frames,
        ),
    )
    summary = {
        "complete": not ended,
        "ended": ended or None,
        **asdict(sums),
        "groups": sum(group.file_count > 1 for group in groups),
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
    for record, duplicate in zip(alert.duplicated, plain["duplicated"], strict=True):
        edit = links.edit(alert.candidate, duplicate["relative_path"])
        duplicate["relation"] = str(relation_of_duplicate(record))
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
