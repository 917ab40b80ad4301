"""Groups, their images, the evidence of their pairs, and people's decisions: the newest, and all before."""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from http_bridge.group_answers import (
    DecisionAnswer,
    GroupEventAnswer,
    decision_answer,
    group_contents,
    kept_path,
    pair_answer,
    weakest_relation,
)
from http_bridge.image_state import iso_time
from imagetools.errors import MessageError
from imagetools.grouping.records import EventKind
from schemas.group_records import DecisionRecord, GroupRecord
from schemas.records import Duplicates
from streams.kafka.follower import ConsumedMessage
from streams.kafka.messages import headers, path_of_key
from streams.standing_decisions import check
from streams.topics import DECISIONS, DUPLICATES, GROUPS

log = logging.getLogger(__name__)

WHO_HEADER = "who"
"""Of a decision without a value: who took it back."""

EVENT_HEADER, INTO_HEADER = "event", "into"
"""Of a group's message: what became of it, and where its earliest image is now."""

TABLES = """
CREATE TABLE groups (
    id TEXT PRIMARY KEY, state TEXT, relation TEXT, score REAL, member_count INTEGER, blank INTEGER, chosen INTEGER,
    keep TEXT, later INTEGER, event TEXT, time INTEGER, contents TEXT, waits INTEGER
) WITHOUT ROWID;
CREATE TABLE ended_groups (id TEXT PRIMARY KEY, event TEXT, into_group TEXT) WITHOUT ROWID;
CREATE TABLE members (
    group_id TEXT, path TEXT, content TEXT, place INTEGER, decided INTEGER, score REAL, metadata TEXT,
    PRIMARY KEY (group_id, path)
) WITHOUT ROWID;
CREATE INDEX members_by_path ON members (path);
CREATE TABLE pairs (
    candidate TEXT, neighbor TEXT, candidate_content TEXT, neighbor_content TEXT, score REAL, time INTEGER,
    evidence TEXT, PRIMARY KEY (candidate, neighbor)
) WITHOUT ROWID;
CREATE INDEX pairs_by_neighbor ON pairs (neighbor);
CREATE TABLE decisions (number INTEGER PRIMARY KEY, id TEXT, decision TEXT, in_force INTEGER, answer TEXT);
CREATE INDEX decisions_by_id ON decisions (id);
CREATE TABLE decided_images (path TEXT, number INTEGER, content TEXT, PRIMARY KEY (path, number)) WITHOUT ROWID;
"""
SCORE_MEMBERS = """
UPDATE members SET score = nullif(max(
    ifnull((
        SELECT max(pairs.score) FROM pairs CROSS JOIN members AS earlier ON earlier.path = pairs.neighbor
        WHERE pairs.candidate = members.path AND earlier.group_id = members.group_id AND earlier.place < members.place
    ), -1),
    ifnull((
        SELECT max(pairs.score) FROM pairs CROSS JOIN members AS earlier ON earlier.path = pairs.candidate
        WHERE pairs.neighbor = members.path AND earlier.group_id = members.group_id AND earlier.place < members.place
    ), -1)
), -1) WHERE group_id = ?
"""
"""CROSS JOIN keeps SQLite at the pairs of each image; it would go through all earlier members of the group first."""

SCORE_GROUP = "UPDATE groups SET score = (SELECT min(score) FROM members WHERE group_id = groups.id) WHERE id = ?"
SELECT_PUT_OFF = """
SELECT answer FROM decisions JOIN decided_images USING (number) WHERE in_force AND decision = 'later' AND path = ?
"""


class GroupTables:
    """The part of the view that is about groups and decisions.

    next_decision  one more than the number of the newest decision that the view holds
    """

    topics = (GROUPS, DECISIONS, DUPLICATES)
    tables = TABLES

    def __init__(
        self, on_group: Callable[[int, GroupEventAnswer], None], on_decision: Callable[[DecisionAnswer], None]
    ):
        """The functions get every change that comes once the topics have been read; a group's with its offset."""
        self._on_group, self._on_decision = on_group, on_decision
        self.next_decision = 0

    def load(self, connection: sqlite3.Connection) -> None:
        """Find out which decision is the newest."""
        (newest,) = connection.execute("SELECT max(number) FROM decisions").fetchone()
        self.next_decision = 0 if newest is None else newest + 1

    def take(self, connection: sqlite3.Connection, batch: Sequence[ConsumedMessage]) -> None:
        """Store messages."""
        groups: dict[str, ConsumedMessage] = {}
        touched: set[str] = set()
        for seen in batch:
            if seen.topic.name == DUPLICATES.name:
                if isinstance(seen.record, Duplicates):
                    touched |= _take_alert(connection, seen.record, seen.message.timestamp()[1])
            elif (key := _key(seen)) is None or seen.error is not None:
                continue
            elif seen.topic.name == GROUPS.name:
                # a large group may come in many versions, of which the last counts
                groups[key] = seen
            elif error := _decision_error(seen):
                log.warning("decision at offset %s is skipped: %s", seen.message.offset(), error)
            else:
                touched |= _take_decision(connection, key, seen)
        for key, seen in groups.items():
            _take_group(connection, key, seen)
        for group in touched | groups.keys():
            connection.execute(SCORE_MEMBERS, (group,))
            connection.execute(SCORE_GROUP, (group,))
            _note_put_off(connection, group)

    def committed(self, batch: Sequence[ConsumedMessage], *, live: bool) -> None:
        """Pass on what became of groups, and decisions."""
        for seen in batch:
            offset, key = seen.message.offset() or 0, _key(seen)
            if seen.topic.name == DECISIONS.name:
                self.next_decision = offset + 1
            if not live or key is None or seen.error is not None:
                continue
            if seen.topic.name == GROUPS.name:
                self._on_group(offset, _group_event(key, seen))
            elif seen.topic.name == DECISIONS.name and _decision_error(seen) is None:
                self._on_decision(_decision(key, seen))

    def delete_before(self, connection: sqlite3.Connection, time: int) -> None:
        """Delete the evidence of older alerts; groups and decisions stay as long as their topics have them."""
        connection.execute("DELETE FROM pairs WHERE time < ?", (time,))


def _take_group(connection: sqlite3.Connection, key: str, seen: ConsumedMessage) -> None:
    record = seen.record
    connection.execute("DELETE FROM ended_groups WHERE id = ?", (key,))
    if not isinstance(record, GroupRecord):
        connection.execute("DELETE FROM groups WHERE id = ?", (key,))
        connection.execute("DELETE FROM members WHERE group_id = ?", (key,))
        row = (key, _header(seen, EVENT_HEADER), _header(seen, INTO_HEADER))
        connection.execute("INSERT INTO ended_groups VALUES (?, ?, ?)", row)
        return
    connection.execute(
        "INSERT OR REPLACE INTO groups VALUES (?, ?, ?, NULL, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
        (
            key,
            str(record.state),
            weakest_relation(record),
            record.member_count,
            record.blank,
            record.chosen,
            kept_path(record),
            _header(seen, EVENT_HEADER) or str(record.event),
            int(record.time.timestamp() * 1000),
            _json(group_contents(record)),
            record.waits,
        ),
    )
    connection.execute("DELETE FROM members WHERE group_id = ?", (key,))
    connection.executemany(
        "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, NULL, ?)",
        [
            (key, m.relative_path, m.content.hex(), n, m.decided, _searched(m.metadata))
            for n, m in enumerate(record.members)
        ],
    )


def _searched(metadata: Mapping[str, str]) -> str:
    """Return metadata as the text that is searched: a line of name=value for each."""
    return "\n".join(f"{name}={value}" for name, value in metadata.items())


def _take_alert(connection: sqlite3.Connection, alert: Duplicates, time: int) -> set[str]:
    """Store an alert's pairs; return the groups that the candidate is in, which may have been read before."""
    for found in alert.duplicated:
        pair = (alert.candidate, found.relative_path)
        connection.execute("DELETE FROM pairs WHERE candidate = ? AND neighbor = ?", pair[::-1])
        contents = (alert.content.hex(), found.content.hex())
        row = (*pair, *contents, round(found.score, 4), time, _json(pair_answer(alert.candidate, found)))
        connection.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return _groups_of(connection, [alert.candidate])


def _decision_error(seen: ConsumedMessage) -> MessageError | None:
    """Return why a decision cannot hold: the grouping stage takes none of these either."""
    try:
        if isinstance(seen.record, DecisionRecord):
            check(seen.record)
    except MessageError as exc:
        return exc
    return None


def _take_decision(connection: sqlite3.Connection, key: str, seen: ConsumedMessage) -> set[str]:
    """Store a decision, or that one was undone; return the groups of its images."""
    answer = _decision(key, seen)
    before = connection.execute("SELECT answer FROM decisions WHERE id = ? AND in_force", (key,)).fetchone()
    if answer.decision is None:
        if before is None:
            return set()
        undone = msgspec.json.decode(before[0], type=DecisionAnswer)
        answer.images, answer.group = undone.images, undone.group
    connection.execute("UPDATE decisions SET in_force = 0 WHERE id = ? AND in_force", (key,))
    row = (answer.number, key, answer.decision, answer.in_force, _json(answer))
    connection.execute("INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?)", row)
    connection.executemany(
        "INSERT OR REPLACE INTO decided_images VALUES (?, ?, ?)",
        [(image.relative_path, answer.number, image.content) for image in answer.images],
    )
    return _groups_of(connection, (image.relative_path for image in answer.images))


def _groups_of(connection: sqlite3.Connection, paths: Iterable[str]) -> set[str]:
    return {
        group
        for path in paths
        for (group,) in connection.execute("SELECT group_id FROM members WHERE path = ?", (path,)).fetchall()
    }


def _note_put_off(connection: sqlite3.Connection, group: str) -> None:
    """Note whether a person put the group off, and saw all of its images that wait for a word."""
    members = connection.execute("SELECT path, content, decided FROM members WHERE group_id = ?", (group,)).fetchall()
    waiting = {(path, content) for path, content, decided in members if not decided}
    # the decision has to name any of them: the first will do
    first = min(waiting, default=("", ""))[0]
    later = False
    for (text,) in connection.execute(SELECT_PUT_OFF, (first,)).fetchall():
        seen = {(one.relative_path, one.content) for one in msgspec.json.decode(text, type=DecisionAnswer).images}
        later = later or waiting <= seen
    connection.execute("UPDATE groups SET later = ? WHERE id = ?", (later, group))


def _decision(key: str, seen: ConsumedMessage) -> DecisionAnswer:
    number = seen.message.offset() or 0
    if isinstance(seen.record, DecisionRecord):
        return decision_answer(number, key, seen.record)
    when = iso_time(seen.message.timestamp()[1]) or ""
    return DecisionAnswer(number, key, None, [], [], "", _header(seen, WHO_HEADER), when, "", in_force=False)


def _group_event(key: str, seen: ConsumedMessage) -> GroupEventAnswer:
    record, into = seen.record, _header(seen, INTO_HEADER)
    event, time = _header(seen, EVENT_HEADER), iso_time(seen.message.timestamp()[1]) or ""
    if not isinstance(record, GroupRecord):
        return GroupEventAnswer(key, event or EventKind.ENDED, into, [], "", 0, time)
    origins = list(record.origins)
    return GroupEventAnswer(key, event or record.event, into, origins, str(record.state), record.member_count, time)


def _key(seen: ConsumedMessage) -> str | None:
    try:
        return path_of_key(seen.message)
    except MessageError:
        return None


def _header(seen: ConsumedMessage, name: str) -> str:
    found = dict(headers(seen.message)).get(name)
    return (found or b"").decode("utf-8", "replace")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
