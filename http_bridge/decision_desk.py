"""Takes decisions: fills in what a client leaves out, refuses to replace an unseen word, and writes the rest."""

import asyncio
import json
import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from http_bridge.chosen_images import ChosenImages
from http_bridge.contracts import require_unicode
from http_bridge.decision_bodies import DecisionBody, DecisionsMade
from http_bridge.errors import HttpError
from http_bridge.group_answers import DecisionAnswer, decision_answer
from http_bridge.group_tables import WHO_HEADER, GroupTables
from http_bridge.groups import read_decision
from http_bridge.images import Images
from http_bridge.topic_view import TopicView
from imagetools.grouping.records import Choice
from imagetools.paths import printable, shown
from schemas.codec import codec
from schemas.group_records import DecisionRecord, ImageContent, decision_id
from streams.config import KafkaConfig
from streams.kafka.async_producer import AsyncProducer
from streams.kafka.clients import ANNOUNCING
from streams.topics import DECISIONS
from streams.traces.base import NO_TRACES, Traces

log = logging.getLogger(__name__)

READ_BACK_S = 3.0
"""How long an answer waits until the bridge has read the decision from its topic."""

POLL_S = 0.01

MAX_DECISION_BYTES = 999_000
"""Of a decision's message without its key. By default Kafka's client takes 1,000,000 bytes with it, a broker more."""

NEVER = 2**63 - 1
"""More than any decision's number."""

SELECT_TOUCHING = """
SELECT answer, in_force FROM decisions WHERE number IN (
    SELECT number FROM json_each(?) AS wanted JOIN decided_images
    ON decided_images.path = json_extract(wanted.value, '$[0]') AND content = json_extract(wanted.value, '$[1]')
    GROUP BY number HAVING count(*) >= 2
) AND number >= ? AND number < ? AND ifnull(decision, 'later') != 'later' ORDER BY number
"""
"""Decisions that say something of a pair among these images."""

SELECT_IN_FORCE = "SELECT answer, in_force FROM decisions WHERE id = ? AND in_force"


class Conflict(Exception):
    """A decision would replace words that its author has not seen; nothing was written."""

    def __init__(self, reason: str, conflicts: list[DecisionAnswer]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.conflicts = conflicts


class PartlyStored(Exception):
    """Kafka has stored some of a request's decisions, and has not confirmed the others."""

    def __init__(self, reason: str, made: DecisionsMade) -> None:
        super().__init__(reason)
        self.reason = reason
        self.made = made


@dataclass(frozen=True)
class Write:
    """A message to the topic.

    record, value  None: the decision with this id is undone
    """

    id: str
    record: DecisionRecord | None = None
    value: bytes | None = None
    images: tuple[ImageContent, ...] = ()


class DecisionDesk:
    """Writes decisions, one request at a time, so that within a bridge none replaces another unseen.

    Two bridges may let decisions pass each other within the milliseconds until both have read them; then the answer
    to the later one names those that it replaced.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        view: TopicView,
        tables: GroupTables,
        images: Images,
        *,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._topic = kafka.topic(DECISIONS.name)
        self._encode = codec(kafka.registry).encode
        self._view = view
        self._tables = tables
        self._images = images
        self._producer = AsyncProducer(kafka, traces=traces, **ANNOUNCING)
        self._one_at_a_time = asyncio.Lock()

    async def decide(self, bodies: Sequence[DecisionBody], who: str) -> DecisionsMade:
        """Write decisions, each in a message of its own. Conflict, HttpError, BrokerAway: none is stored; PartlyStored.

        What is stored may be sent again: it is no conflict.
        """
        require_name("who", who)
        # before the lock: a file that is read for its content takes its time
        chosen = ChosenImages(self._view, self._images)
        writes = [await self._prepare(f"decisions[{n}]", body, who, chosen) for n, body in enumerate(bodies)]
        _require_agreement(writes)
        async with self._one_at_a_time:
            seen_up_to = self._tables.next_decision
            await asyncio.to_thread(self._require_seen, list(zip(writes, bodies, strict=True)), who)
            return await self._write(writes, who, seen_up_to)

    async def undo(self, decision: str, who: str, expected: int | None) -> DecisionsMade:
        """Take a decision back, by its id. HttpError 404 if there is none, Conflict as `_require_expected` says."""
        async with self._one_at_a_time:
            write = Write(decision)
            self._require_expected("id", write, expected, who)
            return await self._write([write], who, self._tables.next_decision)

    def close(self) -> None:
        """Close the producer."""
        self._producer.close()

    async def _prepare(self, field: str, body: DecisionBody, who: str, chosen: ChosenImages) -> Write:
        require_unicode(f"{field}.note", body.note)
        require_unicode(f"{field}.group", body.group)
        images = await chosen.of(field, body)
        key = decision_id(images)
        if body.decision is None:
            return Write(key, images=images)
        record = DecisionRecord(key, body.decision, images, tuple(body.keep), body.group, who, note=body.note)
        value = self._encode(self._topic, record)
        if len(value) > MAX_DECISION_BYTES:
            reason = f"{field}: it takes {len(value):,} bytes, and a message holds {MAX_DECISION_BYTES:,}"
            remedy = "divide the images among several decisions, each with the image to keep"
            raise HttpError(413, f"{reason}; {remedy}")
        return Write(key, record, value, images)

    def _require_seen(self, decided: Sequence[tuple[Write, DecisionBody]], who: str) -> None:
        """Conflict if any of the decisions would replace words that its author has not seen."""
        for number, (write, body) in enumerate(decided):
            field = f"decisions[{number}]"
            if write.record is None:
                self._require_expected(field, write, body.expected, who)
                continue
            first = 0 if body.expected is None else min(max(0, body.expected + 1), NEVER)
            found = [one for one in self._touching(write, first, NEVER) if one.in_force and not _same(one, write)]
            if found:
                raise Conflict(_unseen(field, found[-1], "replace"), found)

    def _require_expected(self, field: str, write: Write, expected: int | None, who: str) -> None:
        """HttpError 404 if there is nothing to undo, Conflict if it is a later decision than the person has seen.

        expected  None: the person has seen their own words alone; "later" is no word that anyone loses
        """
        rows = self._view.query(SELECT_IN_FORCE, [write.id])
        if not rows:
            raise HttpError(404, f"{field}: there is no such decision to undo")
        found = read_decision(*rows[0])
        own = found.who == who or found.decision is Choice.LATER
        if not (own if expected is None else found.number <= expected):
            raise Conflict(_unseen(field, found, "undo"), [found])

    def _touching(self, write: Write, first: int, end: int) -> list[DecisionAnswer]:
        wanted = json.dumps([[one.relative_path, one.content.hex()] for one in write.images])
        return [read_decision(*row) for row in self._view.query(SELECT_TOUCHING, [wanted, first, end])]

    async def _write(self, writes: Sequence[Write], who: str, seen_up_to: int) -> DecisionsMade:
        headers = ((WHO_HEADER, who.encode()),)
        sent = [
            self._producer.send(self._topic, one.value, one.id.encode(), headers if one.value is None else ())
            for one in writes
        ]
        results = zip(writes, await asyncio.gather(*sent, return_exceptions=True), strict=True)
        stored, failed = list[tuple[Write, int]](), list[BaseException]()
        for write, result in results:
            if isinstance(result, BaseException):
                failed.append(result)
            else:
                stored.append((write, result))
        if not stored:
            raise failed[0]
        numbers = [number for _, number in stored]
        read_back = await self._read_back(max(numbers))
        answers = [await asyncio.to_thread(self._answer, write, number, who) for write, number in stored]
        overtook = await asyncio.to_thread(self._overtaken, stored, seen_up_to) if read_back else None
        made = DecisionsMade(answers, overtook)
        if failed:
            reason = f"{len(stored):,} of {len(writes):,} decisions are stored, which the answer lists"
            raise PartlyStored(f"{reason}; send the others again: {failed[0]}", made)
        return made

    def _overtaken(self, stored: Sequence[tuple[Write, int]], seen_up_to: int) -> list[DecisionAnswer]:
        """Return the decisions of others that came after the view was asked for them, and before these."""
        numbers = {number for _, number in stored}
        return [
            one
            for write, number in stored
            for one in self._touching(write, seen_up_to, number)
            if one.number not in numbers and not _same(one, write)
        ]

    async def _read_back(self, number: int) -> bool:
        """Wait until the view holds the decision, so that the next request sees it; return whether it does."""
        try:
            async with asyncio.timeout(READ_BACK_S):
                while self._tables.next_decision <= number:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            log.warning("decision %d is stored, and was not read back within %g s", number, READ_BACK_S)
            return False
        return True

    def _answer(self, write: Write, number: int, who: str) -> DecisionAnswer:
        rows = self._view.query("SELECT answer, in_force FROM decisions WHERE number = ?", [number])
        if rows:
            return read_decision(*rows[0])
        if write.record is None:
            return DecisionAnswer(number, write.id, None, [], [], "", who, "", "", in_force=False)
        return decision_answer(number, write.id, write.record)


def _same(one: DecisionAnswer, write: Write) -> bool:
    """Return whether a person says again what the same person has said."""
    record = write.record
    said = record is not None and (one.who, one.decision, one.keep) == (record.who, record.decision, list(record.keep))
    return said and one.id == write.id


def _unseen(field: str, found: DecisionAnswer, act: str) -> str:
    who = printable(found.who) or "somebody"
    names = _names([one.relative_path for one in found.images])
    how = f"expected={found.number}" if field == "id" else f'"expected": {found.number}'
    return f"{field}: {who} said {found.decision} of {names} at {found.when}; to {act} that, send {how}"


def _names(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 2:,} more" if len(paths) > 2 else ""
    return " and ".join(map(shown, paths[:2])) + more


def require_name(field: str, name: str) -> str:
    """Return a person's name. HttpError 422 if it is not valid Unicode, or holds a control character such as NUL."""
    require_unicode(field, name)
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise HttpError(422, f"{field} holds a control character; a name is one line of text")
    return name


def _require_agreement(writes: Sequence[Write]) -> None:
    """HttpError 422 if two decisions of one request say different things of the same two images."""
    by_id: dict[str, int] = {}
    for number, write in enumerate(writes):
        first = by_id.setdefault(write.id, number)
        if _word(writes[first]) != _word(write):
            raise _contradiction(writes, first, number)
    images = [set(write.images) for write in writes]
    for number, write in enumerate(writes):
        if write.record is None or write.record.decision is not Choice.NOT_DUPLICATE:
            continue
        for other, said in enumerate(writes):
            same = said.record is not None and said.record.decision is Choice.DUPLICATE
            if same and images[number] <= images[other]:
                raise _contradiction(writes, *sorted((other, number)))


def _word(write: Write) -> tuple[Choice | None, frozenset[str]]:
    return (None, frozenset()) if write.record is None else (write.record.decision, frozenset(write.record.keep))


def _contradiction(writes: Sequence[Write], first: int, second: int) -> HttpError:
    fewer = min(writes[first].images, writes[second].images, key=len)
    names = _names([one.relative_path for one in fewer])
    return HttpError(422, f"decisions[{second}]: it contradicts decisions[{first}] on {names}; send one of the two")


DECISION_DESK = web.AppKey("decision_desk", DecisionDesk)
