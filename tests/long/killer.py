"""A plan by which processes and brokers are killed."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.cluster import Cluster, Node
from tests.support.members import Member


@dataclass
class Killer:
    """Kills members and brokers by a seed.

    every_s    the mean time between two kills
    spared     from that time on (time.monotonic), the first member of each stage and the first broker live on, so that
               their memory can be followed
    both_at    when two brokers are killed at once
    """

    cluster: Cluster
    members: list[Member]
    seed: int
    every_s: float
    began: float
    spared: float
    both_at: float
    say: Callable[[str], None]
    broker_kills: int = 0
    broker_ends: int = 0
    _next: float = 0.0
    _away: list[tuple[float, Node]] = field(default_factory=list)
    _had_both: bool = False

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._next = self.began + self.every_s

    def step(self) -> None:
        """Kill or restart what is due."""
        now = time.monotonic()
        for due, node in list(self._away):
            if now >= due:
                self._away.remove((due, node))
                node.start(self.cluster.jars)
                self.say(f"broker {node.number} starts again")
        away = [node for _, node in self._away]
        for node in self.cluster.nodes:
            if not node.alive and node not in away:
                # the system may end a process that takes too much memory; what is tested goes on
                self.broker_ends += 1
                self._away.append((now, node))
                self.say(f"broker {node.number} has ended by itself: {node.last_line}")
        if now >= self.both_at and not self._had_both:
            if self._away or not self.cluster.is_whole:
                # a broker that is back has to catch up first: what only the other two have waits for both
                return
            self._had_both = True
            for node in self.cluster.nodes[1:]:
                self._kill_broker(node, now + 20)
            return
        if now < self._next:
            return
        self._next = now + self.every_s * self._rng.uniform(0.5, 1.5)
        spared = now >= self.spared
        if self._rng.random() < 0.25:
            nodes = [node for node in self.cluster.nodes[1 if spared else 0 :] if node.alive]
            if not self._away and len(nodes) >= 2:
                self._kill_broker(self._rng.choice(nodes), now + self._rng.uniform(5, 20))
            return
        member = self._rng.choice([one for one in self.members if not (spared and one.name.endswith("-0"))])
        if member.kill():
            self.say(f"{member.name} killed")

    def finish(self) -> None:
        """Bring all brokers back."""
        for _, node in self._away:
            node.start(self.cluster.jars)
        self._away.clear()

    def _kill_broker(self, node: Node, back_at: float) -> None:
        node.kill()
        self.broker_kills += 1
        self._away.append((back_at, node))
        self.say(f"broker {node.number} killed, for {back_at - time.monotonic():.0f} s")
