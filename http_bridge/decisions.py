"""POST and GET /v1/decisions, and DELETE /v1/decisions/{id}: people's words on pairs and groups."""

import asyncio
from typing import Any

from aiohttp import web

from http_bridge.bodies import read_json
from http_bridge.decision_bodies import (
    ConflictAnswer,
    Conflicts,
    DecidedAnswer,
    DecisionsAnswer,
    DecisionsBody,
    DecisionsPage,
)
from http_bridge.decision_desk import DECISION_DESK, Conflict, PartlyStored, require_name
from http_bridge.errors import RETRY_AFTER
from http_bridge.groups import DEFAULT_LIMIT, MAX_LIMIT, YES_OR_NO, read_decision
from http_bridge.query import Query
from http_bridge.responses import json_response
from http_bridge.topic_view import TOPIC_VIEW, TopicView
from imagetools.paths import shown

PARAMETERS = ("path", "who", "in_force", "limit", "cursor")
NEWEST = 2**63 - 1
MAX_NAME = 200


async def decide(request: web.Request) -> web.Response:
    """Handle POST /v1/decisions."""
    body = await read_json(request, DecisionsBody)
    request.app[TOPIC_VIEW].require_ready()
    try:
        made = await request.app[DECISION_DESK].decide(body.decisions, body.who)
    except Conflict as exc:
        return _conflict(exc)
    except PartlyStored as exc:
        answer = json_response(DecidedAnswer(0, shown(exc.reason), exc.made), 503)
        answer.headers.update(RETRY_AFTER)
        return answer
    return json_response(DecidedAnswer(1, "", made))


async def undo(request: web.Request) -> web.Response:
    """Handle DELETE /v1/decisions/{id}."""
    query = Query(request, ("who", "expected"))
    expected = query.whole_if_given("expected", -1, NEWEST)
    who = require_name("who", query.text("who", MAX_NAME))
    request.app[TOPIC_VIEW].require_ready()
    try:
        made = await request.app[DECISION_DESK].undo(request.match_info["id"], who, expected)
    except Conflict as exc:
        return _conflict(exc)
    return json_response(DecidedAnswer(1, "", made))


async def decisions(request: web.Request) -> web.Response:
    """Handle GET /v1/decisions."""
    query = Query(request, PARAMETERS)
    view = request.app[TOPIC_VIEW]
    view.require_ready()
    where, values = _filter(query)
    limit = query.whole("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    return json_response(DecisionsAnswer(1, "", await asyncio.to_thread(_page, view, where, values, limit)))


def _filter(query: Query) -> tuple[str, list[Any]]:
    """Return a condition on decisions, and its values."""
    terms = ["number < ?"]
    values: list[Any] = [query.whole("cursor", NEWEST, 0, NEWEST)]
    if path := query.text("path"):
        terms.append("number IN (SELECT number FROM decided_images WHERE path = ?)")
        values.append(path)
    if who := query.text("who", MAX_NAME):
        terms.append("json_extract(answer, '$.who') = ?")
        values.append(who)
    if in_force := query.choice("in_force", YES_OR_NO):
        terms.append("in_force = ?")
        values.append(in_force == "yes")
    return " AND ".join(terms), values


def _page(view: TopicView, where: str, values: list[Any], limit: int) -> DecisionsPage:
    select = f"SELECT answer, in_force FROM decisions WHERE {where} ORDER BY number DESC LIMIT ?"
    found = [read_decision(*row) for row in view.query(select, [*values, limit + 1])]
    cursor = str(found[limit - 1].number) if len(found) > limit else None
    return DecisionsPage(found[:limit], cursor)


def _conflict(conflict: Conflict) -> web.Response:
    return json_response(ConflictAnswer(0, conflict.reason, Conflicts(conflict.conflicts)), 409)
