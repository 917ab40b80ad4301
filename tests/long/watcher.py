"""What is seen of a service from outside while it runs: verdicts, alerts, and the memory of its processes."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException

import psutil

from schemas.records import Duplicates, Verdict, VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka.follower import Follower
from streams.topics import DEAD_LETTERS, DUPLICATES, VERDICTS

MB = 2**20


@dataclass
class Seen:
    """Committed verdicts and alerts, as they come, on a thread of its own.

    outcomes  of each announcement, by request id: all that came
    alerted   pairs, and how often each was reported
    judged    when the first verdict of an announcement came, time.monotonic()
    """

    kafka: KafkaConfig
    outcomes: defaultdict[int, list[VerdictOutcome]] = field(default_factory=lambda: defaultdict(list))
    candidates: Counter[int] = field(default_factory=Counter)
    alerted: Counter[frozenset[str]] = field(default_factory=Counter)
    judged: dict[int, float] = field(default_factory=dict)
    letters: int = 0
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._guard, name="seen")
        self._thread.start()

    def close(self) -> None:
        """Stop reading; raise what went wrong."""
        self._over.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _guard(self) -> None:
        try:
            self._follow()
        except BaseException as exc:
            self.failure = exc

    def _follow(self) -> None:
        topics = [VERDICTS, DUPLICATES, DEAD_LETTERS]
        with closing(Follower(self.kafka, topics, from_beginning=True, patient=True)) as follower:
            while not self._over.is_set():
                for one in follower.read(0.2):
                    self._take(one.record, one.topic is DEAD_LETTERS)

    def _take(self, record: object, letter: bool) -> None:
        self.letters += letter
        if isinstance(record, Verdict) and record.request_id is not None:
            self.outcomes[record.request_id].append(record.outcome)
            self.judged.setdefault(record.request_id, time.monotonic())
        elif isinstance(record, Duplicates) and record.request_id is not None:
            self.candidates[record.request_id] += 1
            self.alerted.update(frozenset((record.candidate, d.relative_path)) for d in record.duplicated)


@dataclass(frozen=True)
class Sample:
    """One look at one process.

    at     time.monotonic()
    size   bytes of memory that is its own: pages of files are the system's to keep or drop
    cache  bytes of it in a cache with a limit
    cpu    seconds since the process's start
    """

    at: float
    pid: int
    size: int
    cache: int
    cpu: float


class Usage:
    """Memory and processor time of named processes, which may be started again."""

    def __init__(self, pids: Mapping[str, Callable[[], int | None]], caches: Mapping[str, Callable[[], int]]) -> None:
        """Take no sample yet.

        pids    of each name, the process that runs now
        caches  of some names, the bytes that its cache holds now
        """
        self._pids = pids
        self._caches = caches
        self.samples: defaultdict[str, list[Sample]] = defaultdict(list)

    def look(self) -> None:
        """Take a sample of each."""
        for name, pid_of in self._pids.items():
            pid = pid_of()
            if pid is None:
                continue
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    cpu = process.cpu_times()
                    memory = process.memory_info()
                    own = memory.rss - memory.shared
                cache = self._caches[name]() if name in self._caches else 0
                sample = Sample(time.monotonic(), pid, own, cache, cpu.user + cpu.system)
            except (psutil.NoSuchProcess, OSError, HTTPException):
                continue
            self.samples[name].append(sample)

    def seconds(self, name: str) -> float:
        """Return the processor time of all lives of a name, as far as it was seen."""
        last: dict[int, float] = {}
        for sample in self.samples[name]:
            last[sample.pid] = sample.cpu
        return sum(last.values())

    def highest(self, name: str) -> float:
        """Return the most memory that a name was seen with, MB."""
        return max((sample.size for sample in self.samples[name]), default=0) / MB

    def slope(self, name: str, since: float) -> "Slope | None":
        """Return how memory grows from a time on, in the life that lasts to the end; None without such a life.

        Without what a cache holds, which grows to its limit and no further.
        """
        found = self.samples[name]
        if not found:
            return None
        taken = [one for one in found if one.pid == found[-1].pid and one.at >= since]
        if len(taken) < 3:
            return None
        times, sizes = [one.at / 60 for one in taken], [(one.size - one.cache) / MB for one in taken]
        mean_time, mean_size = sum(times) / len(times), sum(sizes) / len(sizes)
        spread = sum((t - mean_time) ** 2 for t in times)
        rise = sum((t - mean_time) * (s - mean_size) for t, s in zip(times, sizes, strict=True)) / spread
        caches = taken[0].cache / MB, taken[-1].cache / MB
        return Slope(times[-1] - times[0], sizes[0], sizes[-1], rise, caches)


@dataclass(frozen=True)
class Slope:
    """The memory of one process over a time, without what a cache holds.

    minutes     from the first sample to the last
    begin, end  MB
    rise        MB a minute, by least squares
    caches      what the cache held in the beginning and in the end, MB
    """

    minutes: float
    begin: float
    end: float
    rise: float
    caches: tuple[float, float]
