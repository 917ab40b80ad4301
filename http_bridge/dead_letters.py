"""GET /v1/dead-letters and POST /v1/dead-letters/replay: what was set aside, and sending it back."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from confluent_kafka import KafkaError, KafkaException
from msgspec import Meta, Struct

from http_bridge.bodies import read_json
from http_bridge.dead_letter_tables import DeadLetterAnswer
from http_bridge.errors import RETRY_AFTER, HttpError, kafka_trouble
from http_bridge.groups import DEFAULT_LIMIT, MAX_LIMIT, YES_OR_NO
from http_bridge.query import Query
from http_bridge.responses import json_response
from http_bridge.topic_view import TOPIC_VIEW, TopicView
from imagetools.errors import PrerequisiteMissing
from streams.config import KafkaConfig
from streams.kafka.authorization import PermissionMissing, explained
from streams.kafka.replay import (
    BATCH,
    LettersNotRead,
    NoSuchLetter,
    Replayer,
    letters_at,
    not_replayed,
    reason_to_refuse,
)

PARAMETERS: Final = ("stage", "type", "sent_back", "limit", "cursor")
MAX_WORD: Final = 200
CURSOR: Final = re.compile(r"(\d{1,15})-(\d{1,9})-(\d{1,18})", re.ASCII)
FENCED: Final = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}

Name = Annotated[str, Meta(pattern=r"^[0-9]{1,18}(:[0-9]{1,18})?$")]


class DeadLettersPage(Struct):
    """Letters, the newest first; cursor: of the next page, null behind the last."""

    letters: list[DeadLetterAnswer]
    total: int
    cursor: str | None


class DeadLettersAnswer(Struct):
    """The envelope."""

    global_status: int
    error_message: str
    response: DeadLettersPage


class ReplayBody(Struct, forbid_unknown_fields=True):
    """The names of the letters to send back."""

    letters: Annotated[list[Name], Meta(min_length=1, max_length=BATCH)]


class Refusal(Struct):
    """A letter that must not be sent back, and what to do instead."""

    name: str
    reason: str


class Replayed(Struct):
    """The names of letters that were sent back now, of those that were before, and those that are refused."""

    sent: list[str]
    sent_before: list[str]
    refused: list[Refusal]


class ReplayAnswer(Struct):
    """The envelope."""

    global_status: int
    error_message: str
    response: Replayed


class DeadLetterDesk:
    """Sends letters back, each once, even if others send the same ones at the same time."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        # of two at a time the broker would refuse one
        self._lock = asyncio.Lock()

    async def replay(self, names: Sequence[str]) -> Replayed:
        """Send letters back. HttpError 404 where one is not there, 409 where another replay began, 503."""
        async with self._lock:
            return await asyncio.to_thread(self._replay, [_place(name) for name in dict.fromkeys(names)])

    def _replay(self, places: Sequence[tuple[int, int]]) -> Replayed:
        try:
            with explained(self._kafka, "dead-letters replay"):
                return self._replay_once(places)
        except NoSuchLetter as exc:
            raise HttpError(404, f"letters: {exc}") from exc
        except (PrerequisiteMissing, LettersNotRead, PermissionMissing) as exc:
            raise HttpError(503, str(exc), RETRY_AFTER) from exc
        except KafkaException as exc:
            if exc.args[0].code() in FENCED:
                raise HttpError(409, "another replay began meanwhile, and nothing was sent; try again") from exc
            raise HttpError(503, kafka_trouble(self._kafka, exc), RETRY_AFTER) from exc

    def _replay_once(self, places: Sequence[tuple[int, int]]) -> Replayed:
        reasons = [(letter, reason_to_refuse(self._kafka, letter)) for letter in letters_at(self._kafka, places)]
        refused = [Refusal(letter.name, reason) for letter, reason in reasons if reason]
        sendable = [letter for letter, reason in reasons if not reason]
        if not sendable:
            return Replayed([], [], refused)
        # before the look at what was sent back: no other replay can then come between
        with closing(Replayer(self._kafka)) as replayer:
            left = not_replayed(self._kafka, sendable)
            for _ in replayer.send(left):
                pass
        sent = [letter.name for letter in left]
        return Replayed(sent, [letter.name for letter in sendable if letter.name not in sent], refused)


async def dead_letters(request: web.Request) -> web.Response:
    """Handle GET /v1/dead-letters."""
    query = Query(request, PARAMETERS)
    view = request.app[TOPIC_VIEW]
    view.require_ready()
    where, values = _filter(query)
    limit = query.whole("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    cursor = _cursor(query.text("cursor", MAX_WORD))
    return json_response(DeadLettersAnswer(1, "", await asyncio.to_thread(_page, view, where, values, limit, cursor)))


async def replay(request: web.Request) -> web.Response:
    """Handle POST /v1/dead-letters/replay."""
    body = await read_json(request, ReplayBody)
    return json_response(ReplayAnswer(1, "", await request.app[DEAD_LETTER_DESK].replay(body.letters)))


def _filter(query: Query) -> tuple[str, list[Any]]:
    """Return a condition on letters, and its values."""
    terms, values = ["1"], list[Any]()
    if stage := query.text("stage", MAX_WORD):
        terms.append("stage = ?")
        values.append(stage)
    if kind := query.text("type", MAX_WORD):
        terms.append("error_type = ?")
        values.append(kind)
    if sent_back := query.choice("sent_back", YES_OR_NO):
        terms.append(f"name {'' if sent_back == 'yes' else 'NOT '}IN (SELECT name FROM letters_sent_back)")
    return " AND ".join(terms), values


def _cursor(text: str) -> tuple[int, int, int] | None:
    if not text:
        return None
    found = CURSOR.fullmatch(text)
    if found is None:
        raise HttpError(422, "cursor: it is not one of an answer")
    return int(found[1]), int(found[2]), int(found[3])


def _page(
    view: TopicView, where: str, values: list[Any], limit: int, cursor: tuple[int, int, int] | None
) -> DeadLettersPage:
    ((total,),) = view.query(f"SELECT count(*) FROM letters WHERE {where}", values)
    after = "" if cursor is None else " AND (time, partition, offset) < (?, ?, ?)"
    select = (
        "SELECT answer, name IN (SELECT name FROM letters_sent_back), time, partition, offset FROM letters "
        f"WHERE {where}{after} ORDER BY time DESC, partition DESC, offset DESC LIMIT ?"
    )
    rows = view.query(select, [*values, *(cursor or ()), limit + 1])
    letters = []
    for text, sent_back, *_ in rows[:limit]:
        letter = msgspec.json.decode(text, type=DeadLetterAnswer)
        letter.sent_back = bool(sent_back)
        letters.append(letter)
    following = "-".join(str(part) for part in rows[limit - 1][2:]) if len(rows) > limit else None
    return DeadLettersPage(letters, total, following)


def _place(name: str) -> tuple[int, int]:
    partition, _, offset = name.rpartition(":")
    return int(partition or 0), int(offset)


DEAD_LETTER_DESK = web.AppKey("dead_letter_desk", DeadLetterDesk)
