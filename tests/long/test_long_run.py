"""A service on three brokers for a long time, killed again and again: nothing lost, nothing doubled, memory flat.

LONG_RUN_MINUTES (20), LONG_RUN_IMAGES (20,000) and LONG_RUN_SEED (1) say how long, how much and which kills; with the
same seed the pictures and the plan of kills are the same. LONG_RUN_REPORT names a file for what is printed.

Images are on an S3 server. Two members of each stage run, each as a user with the documented rights. Images are
announced at a steady rate. In the second half, the first member of each stage and the first broker live on, so that
their memory can be followed. A real Prometheus scrapes all of it where there is one (tests/long/prometheus.py).
"""

import os
import shutil
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from cli.announcing.announce import Announcer
from cli.announcing.sources import NamedImage
from schemas.records import VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka.admin import create_topics
from streams.permissions import rights_of
from tests.long import pictures
from tests.long.killer import Killer
from tests.long.prometheus import Prometheus
from tests.long.watcher import Seen, Slope, Usage
from tests.support.cluster import ADMIN, Cluster
from tests.support.members import Member
from tests.support.monitoring import dashboard, expressions, metrics_in
from tests.support.object_store import ObjectServer
from tests.support.watching import Watched, ports_in_a_row

MINUTES = float(os.environ.get("LONG_RUN_MINUTES", "20"))
IMAGES = int(os.environ.get("LONG_RUN_IMAGES", "20000"))
SEED = int(os.environ.get("LONG_RUN_SEED", "1"))
REPORT = os.environ.get("LONG_RUN_REPORT", "")

STAGES = ("encoder", "search", "matcher", "grouping")
PRODUCER = "your producer"
EACH = 2
KILL_EVERY_S = 20.0
FIRST_S = 120.0
"""How long all stages may take to be ready at first."""

AFTER_S = 300.0
"""How long the last verdicts may take after the last announcement: as long as ten kills do."""

MIN_RECALL = 0.995
MAX_FALSE = 0.001
"""Of all reported pairs. What the matcher is and is not able to see is measured elsewhere; this notices that pairs got
lost or mixed up on the way."""

FLAT_MB_A_MINUTE = 2.0
"""What may collect in any process, such as buffers of connections that brokers' deaths make again."""

STEPS_MB = {"encoder": 50.0}
"""OpenVINO prepares itself for each length of a batch when the first one comes, the longest after a pause: 49 MB for
all."""

WINDOW_KB = {"grouping": 10.0}
"""For each image judged meanwhile: docs/benchmarks.md has 7.8 KB."""

WHOLE_KB = {"search": 13.0}
"""For each image of the whole run. An index of a million takes 6.2 KB an image (docs/capacity.md); one of up to 20,000
swings between 6 and 13, since pieces of it merge, and the system gets memory back late."""

BESIDE_CACHE = 0.08
"""Memory that objects take around each byte that a cache counts."""

SETTLES_S = 180.0
"""Of the second half: the life of a process began before it, and its first minutes fill buffers and threads' memory."""

FLAT_FROM_MINUTES = 15
"""Caches are full, and what grows shows, in a run of this length."""


class Report:
    """Prints lines with the time since the beginning, to the terminal and to a file."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._file = open(REPORT, "w") if REPORT else None  # noqa: SIM115 - closed at the end of the test
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print a line with the time."""
        at = time.monotonic() - self._began
        self.line(f"{int(at) // 60:3}:{int(at) % 60:02}  {text}")

    def line(self, text: str = "") -> None:
        """Print a line."""
        with self._lock:
            print(text, file=sys.__stdout__, flush=True)
            if self._file is not None:
                print(text, file=self._file, flush=True)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class Announcing:
    """Announces images at a steady rate on a thread of its own."""

    def __init__(self, kafka: KafkaConfig, paths: list[str], seconds: float) -> None:
        self._kafka, self._paths, self._seconds = kafka, paths, seconds
        self.announced: dict[int, float] = {}
        self.failure: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcing")
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether all is announced."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stop."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            Announcer(self._kafka).announce(self._paced(), first=1)
        except BaseException as exc:
            self.failure = exc

    def _paced(self) -> Iterator[NamedImage]:
        began = time.monotonic()
        for number, path in enumerate(self._paths):
            if self._over.wait(max(0.0, began + number * self._seconds / len(self._paths) - time.monotonic())):
                return
            self.announced[number + 1] = time.monotonic()
            yield NamedImage(path)


def members_of(cluster: Cluster, folder: Path, images: dict[str, str], first_port: int) -> list[Member]:
    """Two of each stage and a bridge; each has the rights that the docs list, and a port for its metrics."""
    found = []
    for number, (stage, n) in enumerate([(stage, n) for n in range(EACH) for stage in STAGES] + [("bridge", 0)]):
        environ = os.environ | cluster.environ(stage) | images | {
            "MEMBER_NAME": f"{stage}-{n}", "INDEX_DIR": str(folder / f"index-{n}"),
            "FEATURES_DIR": str(folder / "features"), "BRIDGE_DIR": str(folder / "bridge"),
            "METRICS_PORT": str(first_port + number), "SERVER_PORT": str(first_port + number),
        }  # fmt: skip
        found.append(Member(f"{stage}-{n}", stage, environ, folder / f"{stage}-{n}.log"))
    return found


def cached(port: int) -> int:
    """Bytes of features that a process keeps in memory."""
    return int(Watched(port).metrics().total("imagetools_features_memory_bytes"))


def ready(port: int) -> bool:
    try:
        return Watched(port).ask("/readyz")[0] == 200
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.timeout(int(60 * MINUTES + FIRST_S + AFTER_S + 600))
def test_a_long_run_with_kills_loses_nothing_doubles_nothing_and_stays_flat(tmp_path):
    report = Report()
    with ExitStack() as stack:
        stack.callback(report.close)
        planned = pictures.plan(IMAGES, SEED)
        paths = list(pictures.paths(planned))
        server = stack.enter_context(ObjectServer())
        bucket = server.bucket()
        began = time.monotonic()
        pictures.write(planned, bucket.folder, SEED, os.cpu_count() or 1)
        pairs = pictures.true_pairs(planned)
        scenes = len({one.scene for one in planned} - {None})
        report.line(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {MINUTES:g} minutes, seed {SEED}, {os.cpu_count()} cores")
        report.line(
            f"{len(paths):,} files of {scenes:,} scenes, {sum(one.scene is None for one in planned)} of them no image; "
            f"{len(pairs):,} pairs show one scene; made in {time.monotonic() - began:.0f} s"
        )

        users = (*STAGES, "bridge", PRODUCER)
        cluster = stack.enter_context(Cluster(*users))
        for user in users:
            cluster.grant(user, rights_of(KafkaConfig(), user))
        admin = cluster.config(ADMIN)
        create_topics(admin, replication=3)
        port = ports_in_a_row(len(STAGES) * EACH + 1)
        members = members_of(cluster, tmp_path, {**bucket.environ, "IMAGES_DIR": bucket.address}, port)
        ports = {one.name: port + number for number, one in enumerate(members)}
        stages = [one for one in members if one.stage != "bridge"]
        stack.callback(lambda: [one.stop() for one in members])
        began = time.monotonic()
        while not all(map(ready, ports.values())):
            assert time.monotonic() < began + FIRST_S, {name: ready(at) for name, at in ports.items()}
            for one in members:
                one.tend()
            time.sleep(0.2)
        report.say(f"three brokers and {len(members)} processes are ready after {time.monotonic() - began:.0f} s")

        prometheus = None
        if shutil.which("prometheus"):
            targets = {
                "imagetools-stages": [f"127.0.0.1:{ports[one.name]}" for one in stages],
                "imagetools-bridge": [f"127.0.0.1:{ports['bridge-0']}"],
            }
            prometheus = Prometheus(tmp_path / "prometheus", targets)
            stack.callback(prometheus.stop)
        pids = {one.name: (lambda one=one: one.pid) for one in members}
        pids |= {f"broker {node.number}": (lambda node=node: node.pid) for node in cluster.nodes}
        caches = {name: partial(cached, at) for name, at in ports.items() if name.startswith(("matcher", "grouping"))}
        usage = Usage(pids, caches)
        seen = Seen(admin)
        stack.callback(seen.close)
        began, began_epoch = time.monotonic(), time.time()
        half = began + 30 * MINUTES
        settled = half + SETTLES_S
        announcing = Announcing(cluster.config(PRODUCER), paths, 60 * MINUTES)
        stack.callback(announcing.close)
        killer = Killer(cluster, stages, SEED, KILL_EVERY_S, began, half, began + 20 * MINUTES, report.say)

        minute, deadline = 0, began + 60 * MINUTES + AFTER_S
        looked = 0.0
        while not (announcing.done and len(seen.outcomes) >= len(announcing.announced)):
            now = time.monotonic()
            assert announcing.failure is None, announcing.failure
            assert seen.failure is None, seen.failure
            assert now < deadline, f"{len(announcing.announced) - len(seen.outcomes)} images have no verdict"
            for one in members:
                one.tend()
            if announcing.done:
                killer.finish()
            else:
                killer.step()
            if now - looked > 5:
                usage.look()
                looked = now
            if now - began > 60 * (minute + 1):
                minute += 1
                report.say(progress(announcing, seen, killer, stages))
                # for the dashboard's panels on HTTP
                Watched(ports["bridge-0"]).ask("/v1/status")
            time.sleep(0.1)
        taken = time.monotonic() - began
        killer.finish()
        report.say(progress(announcing, seen, killer, stages))
        # nothing more may come
        time.sleep(15)
        usage.look()
        asked = ask_the_dashboard(prometheus, ports, members, began_epoch, report)
        codes = {one.name: one.stop() for one in members}
        seen.close()
        summarise(report, announcing, seen, killer, stages, usage, settled, taken, pairs)
        grown = growing(usage, seen, settled, len(paths), report) if MINUTES >= FLAT_FROM_MINUTES else []

        assert not asked, asked
        assert set(codes.values()) == {0}, codes
        assert sorted(seen.outcomes) == sorted(announcing.announced)
        twice = {number: found for number, found in seen.outcomes.items() if len(found) > 1}
        assert not twice, twice
        assert not [pair for pair, count in seen.alerted.items() if count > 1]
        duplicates = {n for n, (outcome,) in seen.outcomes.items() if outcome is VerdictOutcome.DUPLICATE}
        assert duplicates == set(seen.candidates)
        assert set(seen.candidates.values()) <= {1}
        broken = {n + 1 for n, one in enumerate(planned) if one.scene is None}
        dead = {n for n, (outcome,) in seen.outcomes.items() if outcome is VerdictOutcome.DEAD_LETTER}
        assert dead == broken
        assert seen.letters == len(broken)
        found = set(seen.alerted)
        assert len(found & pairs) >= MIN_RECALL * len(pairs), sorted(map(sorted, pairs - found))[:10]
        assert len(found - pairs) <= MAX_FALSE * len(found), sorted(map(sorted, found - pairs))[:10]
        assert not grown, grown


def progress(announcing: Announcing, seen: Seen, killer: Killer, stages: list[Member]) -> str:
    announced, judged = len(announcing.announced), len(seen.outcomes)
    return (
        f"{announced:,} announced, {judged:,} judged, {announced - judged:,} wait; {len(seen.alerted):,} pairs; "
        f"{sum(one.kills for one in stages)} stages and {killer.broker_kills} brokers killed, "
        f"{sum(one.ended for one in stages)} ended by themselves"
    )


def ask_the_dashboard(
    prometheus: Prometheus | None, ports: dict[str, int], members: list[Member], began: float, report: Report
) -> list[str]:
    """Return the expressions that are not answered; without a Prometheus, those whose metrics were not scraped."""
    panels = {
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])
    }  # fmt: skip
    shown = [(where, text) for where, text in expressions() if text.replace("5m", "$__rate_interval") in panels
             or text in panels]  # fmt: skip
    rules = [(where, text) for where, text in expressions() if (where, text) not in shown]
    if prometheus is None:
        names = set().union(*(Watched(ports[one.name]).metrics().names for one in members if one.pid))
        names |= {"up"}
        report.line(f"no Prometheus here: of {len(shown) + len(rules)} expressions the metrics were looked for")
        return [f"{where}: {text}" for where, text in (*shown, *rules) if not metrics_in(text) <= names]
    now = time.time()
    empty = [f"{where}: {text}" for where, text in shown if not prometheus.series(text, began, now)]
    for _, text in rules:
        prometheus.query(text)
    firing = prometheus.alerts()
    report.line(
        f"Prometheus answers all {len(shown)} queries of the dashboard, {len(empty)} of them without data, and all "
        f"{len(rules)} rules; those that fire at the end: {', '.join(firing) or 'none'}"
    )
    return empty


def may_grow(stage: str, slope: Slope, judged: int, images: int) -> float:
    """Return by how many MB a stage's memory may grow over the time of a slope, apart from its cache.

    judged  images that got their verdict in that time, of all of the run
    """
    cache = max(0.0, slope.caches[1] - slope.caches[0])
    return (
        FLAT_MB_A_MINUTE * slope.minutes + STEPS_MB.get(stage, 0) + BESIDE_CACHE * cache
        + (WINDOW_KB.get(stage, 0) * judged + WHOLE_KB.get(stage, 0) * images) / 1024
    )  # fmt: skip


def growing(usage: Usage, seen: Seen, since: float, images: int, report: Report) -> list[str]:
    """Return the processes whose memory grows by more than it should."""
    judged = sum(at >= since for at in seen.judged.values())
    found = []
    report.line()
    for stage in STAGES:
        slope = usage.slope(f"{stage}-0", since)
        assert slope is not None, f"{stage}-0 did not live through the second half"
        most, grown = may_grow(stage, slope, judged, images), slope.end - slope.begin
        report.line(f"{stage}-0 grew by {grown:.0f} MB in {slope.minutes:.1f} minutes, in which {judged:,} images got "
                    f"their verdict; it may grow by {most:.0f}")  # fmt: skip
        if grown > most:
            found.append(f"{stage}-0 grew by {grown:.0f} MB, more than {most:.0f}")
    return found


def summarise(
    report: Report, announcing: Announcing, seen: Seen, killer: Killer, stages: list[Member], usage: Usage,
    since: float, taken: float, pairs: set[frozenset[str]],
) -> None:  # fmt: skip
    """Print the result."""
    found = set(seen.alerted)
    outcomes: Counter[str] = Counter(outcome.value for several in seen.outcomes.values() for outcome in several)
    waits = sorted(at - announcing.announced[number] for number, at in seen.judged.items())
    report.line()
    report.line(f"{len(announcing.announced):,} images in {taken / 60:.1f} minutes, {len(waits) / taken:.1f} a second")
    report.line(f"verdicts: {', '.join(f'{count:,} {name}' for name, count in outcomes.most_common())}")
    report.line(f"lost {len(set(announcing.announced) - set(seen.outcomes))}, "
                f"doubled {sum(len(several) > 1 for several in seen.outcomes.values())}")  # fmt: skip
    report.line(f"pairs: {len(found):,} reported, {sum(count > 1 for count in seen.alerted.values())} of them twice; "
                f"{len(found & pairs):,} of {len(pairs):,} true ones found, {len(found - pairs)} others")  # fmt: skip
    quantiles = statistics.quantiles(waits, n=100)
    report.line(f"announcement to verdict: {quantiles[49]:.2f} s median, {quantiles[94]:.1f} s 95 %, "
                f"{quantiles[98]:.1f} s 99 %, {waits[-1]:.1f} s at most")  # fmt: skip
    ended = sum(one.ended for one in stages)
    report.line(f"killed: {sum(one.kills for one in stages)} stages, {killer.broker_kills} brokers; "
                f"ended by themselves: {ended} stages, {killer.broker_ends} brokers")  # fmt: skip
    report.line()
    report.line("process        lives  CPU s  most MB at the end: minutes   MB from     to   MB a minute   MB cached")
    for name in sorted(usage.samples):
        lives = len({sample.pid for sample in usage.samples[name]})
        slope = usage.slope(name, since)
        rest = "" if slope is None else f"{slope.minutes:20.1f}{slope.begin:10.0f}{slope.end:7.0f}{slope.rise:14.2f}"
        if slope is not None and any(slope.caches):
            rest += f"   {slope.caches[0]:.0f} to {slope.caches[1]:.0f}"
        report.line(f"{name:13}{lives:7}{usage.seconds(name):7.0f}{usage.highest(name):9.0f}{rest}")
