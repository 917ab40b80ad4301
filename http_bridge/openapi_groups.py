"""The OpenAPI document's paths of groups and decisions."""

from http_bridge.decision_bodies import ConflictAnswer, DecidedAnswer, DecisionsAnswer, DecisionsBody
from http_bridge.decisions import MAX_NAME
from http_bridge.groups import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_SEARCH,
    NO_LIMIT,
    RELATIONS,
    STATES,
    YES_OR_NO,
    GroupAnswer,
    GroupsAnswer,
)
from http_bridge.openapi_parts import BODY_ERRORS, ERRORS, Failure, Json, content, json_operation, ref, responses
from http_bridge.query import MAX_CHARS

GROUP_TYPES = [GroupsAnswer, GroupAnswer, DecisionsBody, DecidedAnswer, ConflictAnswer, DecisionsAnswer]

GROUP_ID: Json = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The group's id: the path of its earliest image. It may contain slashes.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 4096},
}
DECISION_ID: Json = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The decision's id.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
EXAMPLE: Json = {"who": "Ann", "decisions": [{"left": "a.jpg", "right": "b.jpg", "decision": "not_duplicate"}]}


def group_paths() -> Json:
    """Return the paths."""
    conflict = {"409": content(ERRORS["409"], "application/json", ref(ConflictAnswer))}
    decide = json_operation(
        "Decide on pairs and groups, or undo it", DecisionsBody, DecidedAnswer, ("404", *BODY_ERRORS, "503"), EXAMPLE
    )
    decide["description"] = (
        "If one of the decisions cannot be made, none is. Each is a message of its own: should Kafka go away between "
        "them, the answer is 503 and lists those that are stored. Contents that are left out are filled in: those of "
        "the group, of the file, or of the decision before. A decision that would replace words that `expected` does "
        "not cover is refused."
    )
    partly = {"anyOf": [ref(Failure), ref(DecidedAnswer)]}
    decide["responses"] |= conflict | {"503": content(ERRORS["503"], "application/json", partly)}
    undo: Json = {
        "summary": "Undo a decision",
        "parameters": [
            _text("who", "Who undoes it.", MAX_NAME),
            _whole(
                "expected",
                "Number of the newest decision that the person has seen; without it, their own alone is undone.",
                -1,
                2**63 - 1,
            ),
        ],
        "responses": responses(DecidedAnswer, ("404", "422", "503")) | conflict,
    }
    return {
        "/v1/groups": {
            "get": {
                "summary": "List groups of images of one picture",
                "description": "By id. The cursor names a place among the ids, so that the pages skip and repeat no "
                "group that is there all the time.",
                "parameters": _group_filters(),
                "responses": responses(GroupsAnswer, ("422", "503")),
            }
        },
        "/v1/groups/{id}": {
            "parameters": [GROUP_ID],
            "get": {
                "summary": "Get a group with its images, the evidence of its pairs, and what people said",
                "responses": responses(GroupAnswer, ("404", "422", "503")),
            },
        },
        "/v1/decisions": {
            "get": {
                "summary": "List decisions, the newest first",
                "description": "As far back as the topic goes, which forgets replaced decisions sooner or later.",
                "parameters": _decision_filters(),
                "responses": responses(DecisionsAnswer, ("422", "503")),
            },
            "post": decide,
        },
        "/v1/decisions/{id}": {"parameters": [DECISION_ID], "delete": undo},
    }


def _group_filters() -> list[Json]:
    share: Json = {"type": "number", "minimum": 0, "maximum": 1, "default": 0}
    return [
        _choice("state", "Groups that wait for a person, that are decided, or both.", STATES, "open"),
        _choice("relation", "The weakest relation in the group: identical means that all files are.", RELATIONS),
        _query("min_score", "The least score; a group whose alerts are forgotten has none, and fits.", share),
        _text("prefix", "How the path of one of its images begins.", MAX_CHARS),
        _text(
            "search",
            "What the path or the metadata (name=value) of one of its images contains; upper and lower case are alike.",
            MAX_SEARCH,
        ),
        _choice("later", "Whether a person put it off.", YES_OR_NO),
        _whole("min_members", "The least number of images.", 1, NO_LIMIT, 1),
        *_paging(),
    ]


def _decision_filters() -> list[Json]:
    return [
        _text("path", "Decisions on this image.", MAX_CHARS),
        _text("who", "Decisions of this person.", MAX_NAME),
        _choice("in_force", "Whether nothing has replaced it.", YES_OR_NO),
        _whole("limit", "The most on a page.", 1, MAX_LIMIT, DEFAULT_LIMIT),
        _whole("cursor", "From the answer before.", 0, 2**63 - 1),
    ]


def _paging() -> list[Json]:
    cursor: Json = {"type": "string", "pattern": "^[A-Za-z0-9_-]*$"}
    return [
        _whole("limit", "The most on a page.", 1, MAX_LIMIT, DEFAULT_LIMIT),
        _query("cursor", "From the answer before.", cursor),
    ]


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _text(name: str, description: str, most: int) -> Json:
    return _query(name, description, {"type": "string", "maxLength": most})


def _choice(name: str, description: str, choices: tuple[str, ...], default: str | None = None) -> Json:
    schema: Json = {"type": "string", "enum": list(choices)}
    return _query(name, description, schema if default is None else schema | {"default": default})


def _whole(name: str, description: str, least: int, most: int, default: int | None = None) -> Json:
    schema: Json = {"type": "integer", "minimum": least, "maximum": most}
    return _query(name, description, schema if default is None else schema | {"default": default})
