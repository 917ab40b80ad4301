"""Groups and decisions as their topics have them now."""

import logging
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from imagetools.errors import ImageToolsError, MessageError
from schemas.group_records import DecisionRecord, GroupRecord, ImageContent
from streams.config import KafkaConfig
from streams.kafka.admin import require_topics
from streams.kafka.follower import Follower
from streams.kafka.log_reader import LogReader
from streams.kafka.messages import path_of_key
from streams.standing_decisions import check
from streams.topics import DECISIONS, GROUPS

log = logging.getLogger(__name__)

READ_S = 600.0
"""How long reading both topics may take."""


class TopicsNotRead(ImageToolsError):
    """The topics could not be read to their ends in time."""


@dataclass
class GroupLog:
    """The newest of each group, by id, and of each decision, by its key; in the order in which they changed last.

    next_decision  the offset at which the decisions that were not read begin
    """

    groups: dict[str, GroupRecord] = field(default_factory=dict)
    decisions: dict[str, DecisionRecord] = field(default_factory=dict)
    next_decision: int = 0

    def contents(self) -> dict[str, bytes]:
        """Return the content of each image: that in its group or, where it is in none, in what names it last."""
        known = {one.relative_path: one.content for record in self.decisions.values() for one in record.images}
        for group in self.groups.values():
            edges = [*group.doubtful, *(link.edge for link in group.linked)]
            known |= {one.relative_path: one.content for edge in edges for one in (edge.left, edge.right)}
        for group in self.groups.values():
            known |= {member.relative_path: member.content for member in group.members}
        return known

    def touching(self, images: Iterable[ImageContent]) -> list[DecisionRecord]:
        """Return the decisions that name two of these images at these contents, the newest last."""
        named = set(images)
        return [record for record in self.decisions.values() if len(named.intersection(record.images)) >= 2]


def read_groups(kafka: KafkaConfig) -> GroupLog:
    """Read both topics to their ends. PrerequisiteMissing without them, TopicsNotRead."""
    require_topics(kafka, GROUPS, DECISIONS)
    found = GroupLog()
    deadline = time.monotonic() + READ_S
    with closing(Follower(kafka, [GROUPS, DECISIONS], from_beginning=True)) as follower:
        while not follower.caught_up:
            if time.monotonic() > deadline:
                raise TopicsNotRead(f"{kafka.topic(GROUPS.name)} could not be read within {READ_S:.0f} s")
            for seen in follower.read(0.1):
                if seen.topic.name == DECISIONS.name:
                    found.next_decision = (seen.message.offset() or 0) + 1
                try:
                    key = path_of_key(seen.message)
                    if isinstance(seen.record, DecisionRecord):
                        check(seen.record)
                except MessageError as exc:
                    log.warning("%s, offset %s is skipped: %s", seen.message.topic(), seen.message.offset(), exc)
                    continue
                _take(found.groups if seen.topic.name == GROUPS.name else found.decisions, key, seen.record)
    return found


def decisions_between(kafka: KafkaConfig, first: int, end: int) -> list[tuple[int, DecisionRecord]]:
    """Return the decisions from one offset to before another, with their offsets; no undone ones."""
    with closing(LogReader(kafka, DECISIONS.name, DecisionRecord, 0)) as reader:
        read = [one for one in reader.read(first, end) if one is not None]
    return [(one.offset, one.record) for one in read if one.record is not None]


def _take(newest: dict[str, Any], key: str, record: Any) -> None:
    newest.pop(key, None)
    if record is not None:
        newest[key] = record
