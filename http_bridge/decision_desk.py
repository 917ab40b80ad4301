"""Takes decisions: fills in what a client leaves out, refuses to replace an unseen word, and writes the rest."""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from aiohttp import web

from http_bridge.contracts import require_unicode
from http_bridge.decision_bodies import MAX_IMAGES, DecisionBody, ImageToDecide
from http_bridge.errors import HttpError
from http_bridge.group_answers import DecisionAnswer, GroupContents, decision_answer
from http_bridge.group_tables import WHO_HEADER, GroupTables
from http_bridge.groups import read_decision
from http_bridge.images import Images
from http_bridge.topic_view import TopicView
from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.grouping.records import Choice
from imagetools.paths import printable, shown
from schemas.codec import codec
from schemas.group_records import DecisionRecord, ImageContent, decision_id
from streams.config import KafkaConfig
from streams.kafka.async_producer import AsyncProducer
from streams.kafka.clients import ANNOUNCING
from streams.topics import DECISIONS

log = logging.getLogger(__name__)

READ_BACK_S = 3.0
"""How long an answer waits until the bridge has read the decision from its topic."""

POLL_S = 0.01

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


@dataclass(frozen=True)
class Write:
    """A message to the topic; record None: the decision with this id is undone."""

    id: str
    record: DecisionRecord | None
    images: tuple[ImageContent, ...] = ()


class DecisionDesk:
    """Writes decisions, one request at a time, so that within a bridge none replaces another unseen.

    Two bridges may let decisions pass each other within the milliseconds until both have read them; then the answer
    to the later one names those that it replaced.
    """

    def __init__(self, kafka: KafkaConfig, view: TopicView, tables: GroupTables, images: Images) -> None:
        self._topic = kafka.topic(DECISIONS.name)
        self._encode = codec(kafka.registry).encode
        self._view = view
        self._tables = tables
        self._images = images
        self._producer = AsyncProducer(kafka, **ANNOUNCING)
        self._one_at_a_time = asyncio.Lock()

    async def decide(
        self, bodies: Sequence[DecisionBody], who: str
    ) -> tuple[list[DecisionAnswer], list[DecisionAnswer]]:
        """Write decisions; return them, and those of others that they overtook. Conflict, HttpError, BrokerAway."""
        require_unicode("who", who)
        async with self._one_at_a_time:
            seen_up_to = self._tables.next_decision
            writes = [await self._prepare(f"decisions[{n}]", body, who) for n, body in enumerate(bodies)]
            await asyncio.to_thread(self._require_seen, list(zip(writes, bodies, strict=True)), who)
            return await self._write(writes, who, seen_up_to)

    async def undo(self, decision: str, who: str, expected: int | None) -> list[DecisionAnswer]:
        """Take a decision back, by its id. HttpError 404 if there is none, Conflict if it is not the expected one."""
        async with self._one_at_a_time:
            write = Write(decision, None)
            self._require_expected("id", write, expected)
            return (await self._write([write], who, self._tables.next_decision))[0]

    def close(self) -> None:
        """Close the producer."""
        self._producer.close()

    async def _prepare(self, field: str, body: DecisionBody, who: str) -> Write:
        require_unicode(f"{field}.note", body.note)
        require_unicode(f"{field}.group", body.group)
        images = await self._chosen(field, body)
        _require_sense(field, body, images)
        key = decision_id(images)
        if body.decision is None:
            return Write(key, None, images)
        record = DecisionRecord(key, body.decision, images, tuple(body.keep), body.group, who, note=body.note)
        return Write(key, record, images)

    async def _chosen(self, field: str, body: DecisionBody) -> tuple[ImageContent, ...]:
        """Return the images that are decided on, at the contents that the client or the view knows."""
        if body.images is not None:
            named = body.images
        elif body.left is not None and body.right is not None:
            named = [ImageToDecide(body.left), ImageToDecide(body.right)]
        elif body.group:
            return await asyncio.to_thread(self._members, field, body.group)
        else:
            raise HttpError(422, f"{field}: left and right, images, or group are needed")
        return tuple([await self._with_content(field, one) for one in named])

    def _members(self, field: str, group: str) -> tuple[ImageContent, ...]:
        rows = self._view.query("SELECT contents, member_count FROM groups WHERE id = ?", [group])
        if not rows:
            raise HttpError(404, f"{field}.group: there is no group {shown(group)}")
        members = msgspec.json.decode(rows[0][0], type=GroupContents).members
        if len(members) < rows[0][1]:
            raise HttpError(422, f"{field}.group: it has {rows[0][1]:,} images; name the images that you decide on")
        return tuple(ImageContent(one.relative_path, bytes.fromhex(one.content)) for one in members)

    async def _with_content(self, field: str, image: ImageToDecide) -> ImageContent:
        path = require_unicode(f"{field}.{shown(image.relative_path)}", image.relative_path)
        if image.content is not None:
            return ImageContent(path, bytes.fromhex(image.content))
        known = await asyncio.to_thread(self._view.query, "SELECT content FROM members WHERE path = ? LIMIT 1", [path])
        if known:
            return ImageContent(path, bytes.fromhex(known[0][0]))
        try:
            return ImageContent(path, await self._images.digest(path))
        except (ImageError, ImageRootUnavailable) as exc:
            said = await asyncio.to_thread(self._decided_content, path)
            if said is None:
                reason = f"{field}: the content of {shown(path)} is not known here; give its SHA-256 as content ({exc})"
                raise HttpError(422, reason) from exc
            return ImageContent(path, said)

    def _decided_content(self, path: str) -> bytes | None:
        """Return the content at which a person decided on an image last."""
        rows = self._view.query(
            "SELECT content FROM decided_images WHERE path = ? ORDER BY number DESC LIMIT 1", [path]
        )
        return bytes.fromhex(rows[0][0]) if rows else None

    def _require_seen(self, decided: Sequence[tuple[Write, DecisionBody]], who: str) -> None:
        """Conflict if any of the decisions would replace words that its author has not seen."""
        for number, (write, body) in enumerate(decided):
            field = f"decisions[{number}]"
            if write.record is None:
                self._require_expected(field, write, body.expected)
                continue
            first = 0 if body.expected is None else min(max(0, body.expected + 1), NEVER)
            found = [one for one in self._touching(write, first, NEVER) if one.in_force and not _same(one, write)]
            if found:
                raise Conflict(_unseen(field, found[-1]), found)

    def _require_expected(self, field: str, write: Write, expected: int | None) -> None:
        """HttpError 404 if there is nothing to undo, Conflict if it is a later decision than the person has seen."""
        rows = self._view.query(SELECT_IN_FORCE, [write.id])
        if not rows:
            raise HttpError(404, f"{field}: there is no such decision to undo")
        found = read_decision(*rows[0])
        if expected is not None and found.number > expected:
            raise Conflict(_unseen(field, found), [found])

    def _touching(self, write: Write, first: int, end: int) -> list[DecisionAnswer]:
        wanted = json.dumps([[one.relative_path, one.content.hex()] for one in write.images])
        return [read_decision(*row) for row in self._view.query(SELECT_TOUCHING, [wanted, first, end])]

    async def _write(
        self, writes: Sequence[Write], who: str, seen_up_to: int
    ) -> tuple[list[DecisionAnswer], list[DecisionAnswer]]:
        headers = ((WHO_HEADER, who.encode()),)
        values = [None if one.record is None else self._encode(self._topic, one.record) for one in writes]
        sent = [
            self._producer.send(self._topic, value, one.id.encode(), headers if value is None else ())
            for one, value in zip(writes, values, strict=True)
        ]
        numbers = await asyncio.gather(*sent)
        await self._read_back(max(numbers))
        answers, overtook = [], []
        for write, number in zip(writes, numbers, strict=True):
            answers.append(await asyncio.to_thread(self._answer, write, number, who))
            touching = await asyncio.to_thread(self._touching, write, seen_up_to, number)
            overtook += [one for one in touching if one.number not in numbers and not _same(one, write)]
        return answers, overtook

    async def _read_back(self, number: int) -> None:
        """Wait until the view holds the decision, so that the next request sees it."""
        try:
            async with asyncio.timeout(READ_BACK_S):
                while self._tables.next_decision <= number:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            log.warning("decision %d is stored, and was not read back within %g s", number, READ_BACK_S)

    def _answer(self, write: Write, number: int, who: str) -> DecisionAnswer:
        rows = self._view.query("SELECT answer, in_force FROM decisions WHERE number = ?", [number])
        if rows:
            return read_decision(*rows[0])
        if write.record is None:
            return DecisionAnswer(number, write.id, None, [], [], "", who, "", "", in_force=False)
        return decision_answer(number, write.id, write.record)


def _require_sense(field: str, body: DecisionBody, images: Sequence[ImageContent]) -> None:
    paths = [one.relative_path for one in images]
    if len(set(paths)) < len(paths):
        raise HttpError(422, f"{field}: an image is named twice")
    if not 2 <= len(paths) <= MAX_IMAGES:
        raise HttpError(422, f"{field}: {len(paths):,} images; from 2 to {MAX_IMAGES:,} are needed")
    if body.decision is Choice.NOT_DUPLICATE and len(paths) != 2:
        raise HttpError(422, f"{field}: not_duplicate is about two images; send a decision for each pair")
    if body.keep and body.decision is not Choice.DUPLICATE:
        raise HttpError(422, f"{field}.keep: it goes with the decision duplicate")
    for path in set(body.keep) - set(paths):
        raise HttpError(422, f"{field}.keep: {shown(path)} is none of the images")


def _same(one: DecisionAnswer, write: Write) -> bool:
    """Return whether a person says again what the same person has said."""
    record = write.record
    said = record is not None and (one.who, one.decision, one.keep) == (record.who, record.decision, list(record.keep))
    return said and one.id == write.id


def _unseen(field: str, found: DecisionAnswer) -> str:
    names = " and ".join(shown(one.relative_path) for one in found.images[:2])
    more = f" and {len(found.images) - 2:,} more" if len(found.images) > 2 else ""
    who = printable(found.who) or "somebody"
    return (
        f"{field}: {who} said {found.decision} of {names}{more} at {found.when}; to replace that, send "
        f'"expected": {found.number}'
    )


DECISION_DESK = web.AppKey("decision_desk", DecisionDesk)
