"""GET /v1/groups and GET /v1/groups/{id}: groups from the bridge's view of their topic."""

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from http_bridge.errors import HttpError
from http_bridge.group_answers import (
    DecisionAnswer,
    EdgeAnswer,
    GroupContents,
    GroupDetail,
    GroupSummary,
    MemberAnswer,
    PairAnswer,
)
from http_bridge.image_state import iso_time
from http_bridge.images import IMAGES, Images, image_path
from http_bridge.query import Query
from http_bridge.responses import json_response
from http_bridge.topic_view import TOPIC_VIEW, TopicView
from imagetools.grouping.records import GroupState

GROUPS_ROUTE = "/v1/groups/"
DEFAULT_LIMIT, MAX_LIMIT = 50, 500
MAX_PAIRS, MAX_DECISIONS, MAX_MEMBERS = 200, 100, 500
"""Listed in the answer about one group."""

NO_LIMIT = 2**31 - 1
MAX_SEARCH = 200

STATES = ("open", "decided", "all")
YES_OR_NO = ("yes", "no")
RELATIONS = ("identical", "same", "blank", "crop", "contains", "overlap")
PARAMETERS = ("state", "relation", "min_score", "prefix", "search", "later", "min_members", "limit", "cursor")

COLUMNS = "id, state, relation, score, member_count, blank, chosen, keep, later, event, time"
CONTAINS = "instr(lower(path), lower(?)) OR instr(lower(metadata), lower(?))"
LAST_CHARACTER = "\U0010ffff"

SELECT_PAIRS = """
SELECT evidence FROM pairs JOIN members AS one ON one.path = candidate JOIN members AS two ON two.path = neighbor
WHERE one.group_id = ?1 AND two.group_id = ?1
AND candidate_content IN ('', one.content) AND neighbor_content IN ('', two.content)
ORDER BY pairs.score DESC LIMIT ?2
"""
SELECT_PAIR = """
SELECT evidence FROM pairs WHERE candidate = ?1 AND neighbor = ?2 OR candidate = ?2 AND neighbor = ?1
"""
SELECT_BEYOND = """
SELECT contents FROM groups WHERE id IN (
    SELECT group_id FROM members WHERE path IN (SELECT value FROM json_each(?)) AND group_id != ?
)
"""
SELECT_DECISIONS = """
SELECT answer, in_force FROM decisions WHERE number IN (
    SELECT number FROM decided_images JOIN members USING (path, content) WHERE group_id = ?1
    GROUP BY number HAVING count(*) >= 2
) ORDER BY number DESC LIMIT ?2
"""


class GroupsPage(Struct):
    """Some groups, by id.

    total   how many groups there are that fit
    cursor  for the next page; null: this is the last
    """

    groups: list[GroupSummary]
    total: int
    cursor: str | None


class GroupsAnswer(Struct):
    """The envelope of a list of groups."""

    global_status: int
    error_message: str
    response: GroupsPage


class GroupAnswer(Struct):
    """The envelope of a group."""

    global_status: int
    error_message: str
    response: GroupDetail


async def groups(request: web.Request) -> web.Response:
    """Handle GET /v1/groups."""
    query = Query(request, PARAMETERS)
    view = request.app[TOPIC_VIEW]
    view.require_ready()
    where, values = _filter(query)
    limit = query.whole("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    after = _decode_cursor(query.text("cursor"))
    return json_response(GroupsAnswer(1, "", await asyncio.to_thread(_page, view, where, values, after, limit)))


async def group(request: web.Request) -> web.Response:
    """Handle GET /v1/groups/{id}. HttpError 404 if there is no such group."""
    Query(request, ())
    view, group_id = request.app[TOPIC_VIEW], image_path(request, GROUPS_ROUTE)
    view.require_ready()
    found = await asyncio.to_thread(group_detail, view, group_id)
    await _note_times(request.app[IMAGES], found)
    return json_response(GroupAnswer(1, "", found))


def group_detail(view: TopicView, group_id: str) -> GroupDetail:
    """Return a group with its pairs and decisions. HttpError 404 if there is none."""
    rows = view.query(f"SELECT {COLUMNS}, contents FROM groups WHERE id = ?", [group_id])
    if not rows:
        raise HttpError(404, _what_became(view, group_id))
    *summary, text = rows[0]
    contents = msgspec.json.decode(text, type=GroupContents)
    edges = [*contents.doubtful, *(link.edge for link in contents.linked)]
    pairs = view.query(SELECT_PAIRS, [group_id, MAX_PAIRS])
    for edge in edges:
        pairs += view.query(SELECT_PAIR, [edge.left.relative_path, edge.right.relative_path])
    decisions = [read_decision(*row) for row in view.query(SELECT_DECISIONS, [group_id, MAX_DECISIONS])]
    return GroupDetail(
        **msgspec.structs.asdict(_summary(summary)),
        members=contents.members[:MAX_MEMBERS],
        reasons=contents.reasons,
        doubtful=contents.doubtful,
        linked=contents.linked,
        beyond=_beyond(view, group_id, edges),
        pairs=[msgspec.json.decode(evidence, type=PairAnswer) for (evidence,) in pairs],
        decisions=decisions,
        newest=max((one.number for one in decisions), default=-1),
    )


def _beyond(view: TopicView, group_id: str, edges: Sequence[EdgeAnswer]) -> list[MemberAnswer]:
    """Return the images of other groups that edges lead to, as their groups have them."""
    wanted = {one.relative_path: one.content for edge in edges for one in (edge.left, edge.right)}
    rows = view.query(SELECT_BEYOND, [json.dumps(list(wanted)), group_id])
    found = (one for (text,) in rows for one in msgspec.json.decode(text, type=GroupContents).members)
    return [one for one in found if wanted.get(one.relative_path) == one.content]


def read_decision(text: str, in_force: int) -> DecisionAnswer:
    """Return a decision as the view stores it."""
    decision = msgspec.json.decode(text, type=DecisionAnswer)
    decision.in_force = bool(in_force)
    return decision


def _page(view: TopicView, where: str, values: list[Any], after: str, limit: int) -> GroupsPage:
    ((total,),) = view.query(f"SELECT count(*) FROM groups WHERE {where}", values)
    select = f"SELECT {COLUMNS} FROM groups WHERE {where} AND id > ? ORDER BY id LIMIT ?"
    found = [_summary(row) for row in view.query(select, [*values, after, limit + 1])]
    cursor = _encode_cursor(found[limit - 1].id) if len(found) > limit else None
    return GroupsPage(found[:limit], total, cursor)


def _filter(query: Query) -> tuple[str, list[Any]]:
    """Return a condition on groups, and its values."""
    terms = ["1"]
    values: list[Any] = []
    if (state := query.choice("state", STATES, str(GroupState.OPEN))) != "all":
        terms.append("waits" if state == GroupState.OPEN else "state = 'decided'")
    if relation := query.choice("relation", RELATIONS):
        terms.append("relation = ?")
        values.append(relation)
    if later := query.choice("later", YES_OR_NO):
        terms.append("later = ?")
        values.append(later == "yes")
    if (members := query.whole("min_members", 1, 1, NO_LIMIT)) > 1:
        terms.append("member_count >= ?")
        values.append(members)
    if score := query.share("min_score"):
        terms.append("ifnull(score, 1) >= ?")
        values.append(score)
    if prefix := query.text("prefix"):
        terms.append("EXISTS (SELECT 1 FROM members WHERE group_id = groups.id AND path >= ? AND path <= ?)")
        values += [prefix, prefix + LAST_CHARACTER]
    if search := query.text("search", MAX_SEARCH):
        terms.append(f"EXISTS (SELECT 1 FROM members WHERE group_id = groups.id AND ({CONTAINS}))")
        values += [search, search]
    return " AND ".join(terms), values


def _summary(row: Sequence[Any]) -> GroupSummary:
    group_id, state, relation, score, count, blank, chosen, keep, later, event, time = row
    return GroupSummary(
        group_id,
        GroupState(state),
        relation,
        score,
        count,
        bool(blank),
        bool(chosen),
        keep,
        bool(later),
        event,
        iso_time(time) or "",
    )


def _what_became(view: TopicView, group_id: str) -> str:
    for event, into in view.query("SELECT event, into_group FROM ended_groups WHERE id = ?", [group_id]):
        return f"id: the group {group_id} was {event} into {into}" if into else f"id: the group {group_id} has ended"
    return f"id: there is no group {group_id}"


async def _note_times(images: Images, found: GroupDetail) -> None:
    members = [*found.members, *found.beyond]
    times = await images.modified([member.relative_path for member in members])
    for member, time in zip(members, times, strict=True):
        member.modified = time


def _encode_cursor(group_id: str) -> str:
    return base64.urlsafe_b64encode(group_id.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise HttpError(422, "cursor: it is not one that an answer had") from exc
