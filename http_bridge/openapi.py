"""The OpenAPI document. Bodies come from the very types that requests are read as and answers written from."""

from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from http_bridge.alerts import KEPT
from http_bridge.contracts import EncodeAnswer, EncodeBody, MatchAnswer, MatchBody, SearchAnswer, SearchBody
from http_bridge.duplicates import UPLOAD, DuplicatesAnswer
from http_bridge.image_states import ImageStateAnswer
from http_bridge.images import DEFAULT_SIDE, SIDES, AnnounceAnswer, ImageBody
from http_bridge.monitor import StatusAnswer
from http_bridge.refusals import answered

Json = dict[str, Any]


class Nothing(Struct, forbid_unknown_fields=True):
    """An empty object."""


class Failure(Struct):
    """The envelope of a request that was not served: error_message says why, and names the field that is to blame."""

    global_status: Literal[0]
    error_message: str
    response: Nothing


class Health(Struct):
    """alive, ready, or what is missing."""

    status: str


REFUSALS = {
    "400": "The body is no JSON.",
    "401": "A bearer token is needed.",
    "403": "A web page of another origin asks.",
    "404": "There is no such image.",
    "408": "The body did not come in time, or too many were coming and it was the furthest behind.",
    "413": "The body, or the image in it, is too large.",
    "415": "The bytes are no image of a format that is read, or the Content-Encoding is not gzip or deflate.",
    "422": "A field is wrong, or what it names cannot be used; error_message begins with the field's name.",
    "429": "Too many requests wait already; Retry-After says when to come again.",
    "500": "A fault of a stage or of the bridge.",
    "503": "Kafka is away, or what is needed is being read from it; Retry-After says when to come again.",
    "504": "The stage did not answer in time.",
}
ASKING = ("429", "500", "503", "504")
BODY = ("400", "408", "413", "415", "422")


def document(*, token: bool) -> Json:
    """The document; `token` says whether one is asked for."""
    types = [
        EncodeBody, EncodeAnswer, SearchBody, SearchAnswer, MatchBody, MatchAnswer, ImageBody, AnnounceAnswer,
        ImageStateAnswer, DuplicatesAnswer, StatusAnswer, Health, Failure,
    ]  # fmt: skip
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    everywhere = ("401", "403") if token else ("403",)
    found: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "imagetools",
            "version": "1",
            "description": "Ask the running stream for fingerprints, neighbors and duplicates, and follow its alerts.",
        },
        "paths": {path: _with(item, everywhere) for path, item in _paths().items()},
        "components": {"schemas": components},
    }
    if token:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        for path in ("/healthz", "/readyz"):
            found["paths"][path]["get"]["security"] = []
    return found


def _paths() -> Json:
    path = {
        "name": "path",
        "in": "path",
        "required": True,
        "description": "The image's path below IMAGES_DIR; it may have slashes.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 4096},
    }
    return {
        "/api-image-encoder": {
            "post": _json(
                "Fingerprint one image", EncodeBody, EncodeAnswer, ("404", *BODY, *ASKING),
                {"request_id": 1, "relative_path": "a.jpg"},
            )
        },
        "/api-contextual-search": {
            "post": _json("Find a fingerprint's neighbors", SearchBody, SearchAnswer, (*BODY, *ASKING))
        },
        "/api-instance-matching": {
            "post": _json(
                "Tell which neighbors show the candidate's picture", MatchBody, MatchAnswer,
                ("404", *BODY, *ASKING), {"candidate": "a.jpg", "neighbors": ["b.jpg", "c.jpg"]},
            )
        },
        "/v1/duplicates": {
            "post": {
                "summary": "Find the duplicates of an image of yours, with the evidence",
                "description": "One image a request; nothing of it is stored. At most "
                f"{UPLOAD.max_bytes // 2**20} MiB and {UPLOAD.max_pixels // 10**6} million pixels.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "multipart/form-data": {
                            "schema": {
                                "type": "object",
                                "properties": {"image": {"type": "string", "format": "binary"}},
                                "required": ["image"],
                            }
                        },
                        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                    },
                },
                "responses": _answers(DuplicatesAnswer, (*BODY, *ASKING)),
            }
        },
        "/v1/duplicates/stream": {
            "get": {
                "summary": "Alerts and dead letters as they come, as Server-Sent Events",
                "description": "An event alert has a record of the topic duplicates as JSON; an event dead-letter the "
                "path, reason and origin of a message that was set aside. After an interruption Last-Event-ID goes on "
                "where it was, as far back as the bridge remembers.",
                "parameters": [
                    {
                        "name": "recent",
                        "in": "query",
                        "description": "At most this many past alerts, and past dead letters, first.",
                        "schema": {"type": "integer", "minimum": 0, "maximum": KEPT, "default": 0},
                    }
                ],
                "responses": {
                    "200": {
                        "description": "The stream; it does not end.",
                        "content": {"text/event-stream": {"schema": {"type": "string"}}},
                    },
                    **_refusals("422"),
                },
            }
        },
        "/v1/images": {
            "post": _json(
                "Announce an image", ImageBody, AnnounceAnswer, ("404", "415", *BODY, "503"),
                {"relative_path": "a.jpg"}, "202"
            )
        },
        "/v1/images/{path}": {
            "parameters": [path],
            "get": {
                "summary": "What became of an image's newest announcement",
                "description": "404 where it was not announced, as far as the topics go back.",
                "responses": _answers(ImageStateAnswer, ("404", "422", "503")),
            },
            "delete": {
                "summary": "Announce that an image is gone",
                "responses": _answers(AnnounceAnswer, ("404", "422", "503"), "202"),
            },
        },
        "/v1/pictures/{path}": {
            "parameters": [path],
            "get": {
                "summary": "A small picture of an image, as JPEG",
                "parameters": [
                    {
                        "name": "side",
                        "in": "query",
                        "description": "Its longer side at most, pixels.",
                        "schema": {
                            "type": "integer", "minimum": SIDES[0], "maximum": SIDES[1], "default": DEFAULT_SIDE
                        },
                    }
                ],
                "responses": {
                    "200": {
                        "description": "The picture.",
                        "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
                    },
                    **_refusals("404", "413", "415", "422", "503"),
                },
            },
        },
        "/v1/status": {
            "get": {
                "summary": "Every stage's lag, rate and processes, and dead letters",
                "responses": _answers(StatusAnswer, ()),
            }
        },
        "/healthz": {"get": {"summary": "Whether the bridge serves", "responses": _answers(Health, ())}},
        "/readyz": {
            "get": {
                "summary": "Whether Kafka and its topics can be reached",
                "responses": _answers(Health, ()) | {"503": _answers(Health, ())["200"] | {"description": "Not now."}},
            }
        },
        "/metrics": {
            "get": {
                "summary": "Metrics for Prometheus",
                "responses": {
                    "200": {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
                },
            }
        },
    }  # fmt: skip


def _with(item: Json, refusals: tuple[str, ...]) -> Json:
    for method, operation in item.items():
        if method != "parameters":
            operation["responses"] |= _refusals(*refusals)
    return item


def _json(
    summary: str,
    body: type[Struct],
    answer: type[Struct],
    refusals: tuple[str, ...],
    example: Json | None = None,
    status: str = "200",
) -> Json:
    content: Json = {"schema": _ref(body)}
    if example is not None:
        content["example"] = example
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": _answers(answer, refusals, status),
    }


def _answers(answer: type[Struct], refusals: tuple[str, ...], status: str = "200") -> Json:
    good = {"description": "Served.", "content": {"application/json": {"schema": _ref(answer)}}}
    return {status: good, **_refusals(*refusals)}


def _refusals(*statuses: str) -> Json:
    content = {"application/json": {"schema": _ref(Failure)}}
    return {status: {"description": REFUSALS[status], "content": content} for status in statuses}


def _ref(kind: type[Struct]) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


DOCUMENT = web.AppKey("document", dict)


async def openapi(request: web.Request) -> web.Response:
    """GET /openapi.json."""
    return answered(request.app[DOCUMENT])
