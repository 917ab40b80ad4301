"""The OpenAPI document; its schemas come from the types that requests are parsed into and answers are written from."""

from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from http_bridge.alert_feed import MAX_KEPT
from http_bridge.contracts import EncodeAnswer, EncodeBody, MatchAnswer, MatchBody, SearchAnswer, SearchBody
from http_bridge.duplicates import UPLOAD, DuplicatesAnswer
from http_bridge.image_state import ImageStateAnswer
from http_bridge.images import DEFAULT_SIDE, MAX_SIDE, MIN_SIDE, AnnounceAnswer, ImageBody
from http_bridge.monitor import StatusAnswer
from http_bridge.responses import json_response

Json = dict[str, Any]


class Empty(Struct, forbid_unknown_fields=True):
    """An empty object."""


class Failure(Struct):
    """The envelope of a failed request; error_message says why, and names the field at fault."""

    global_status: Literal[0]
    error_message: str
    response: Empty


class Health(Struct):
    """alive, ready, or what is missing."""

    status: str


ERRORS = {
    "400": "The body is not valid JSON.",
    "401": "A bearer token is needed.",
    "403": "The request comes from a web page of another origin.",
    "404": "There is no such image.",
    "408": "The body did not arrive in time, or too many were arriving and it was the furthest behind.",
    "413": "The body, or the image in it, is too large.",
    "415": "The bytes are not an image in a supported format, or the Content-Encoding is not gzip or deflate.",
    "422": "A field is wrong, or what it names cannot be used; error_message begins with the field's name.",
    "429": "Too many requests are waiting already; Retry-After says when to try again.",
    "500": "A fault of a stage or of the bridge.",
    "503": "Kafka is away, or data is still being read from it; Retry-After says when to try again.",
    "504": "The stage did not answer in time.",
}
STAGE_ERRORS = ("429", "500", "503", "504")
BODY_ERRORS = ("400", "408", "413", "415", "422")

TYPES = [
    EncodeBody, EncodeAnswer, SearchBody, SearchAnswer, MatchBody, MatchAnswer, ImageBody, AnnounceAnswer,
    ImageStateAnswer, DuplicatesAnswer, StatusAnswer, Health, Failure,
]  # fmt: skip

IMAGE_PATH: Json = {
    "name": "path",
    "in": "path",
    "required": True,
    "description": "The image's path below IMAGES_DIR; it may contain slashes.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 4096},
}
BINARY: Json = {"type": "string", "format": "binary"}


def document(*, token: bool) -> Json:
    """Build the document; token: whether the bridge requires one."""
    _, components = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    paths = _contract_paths() | _duplicate_paths() | _image_paths() | _operation_paths()
    errors = ("401", "403") if token else ("403",)
    found: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "imagetools",
            "version": "1",
            "description": "Ask the running stream for fingerprints, neighbors and duplicates, and follow its alerts.",
        },
        "paths": {path: _with_errors(item, errors) for path, item in paths.items()},
        "components": {"schemas": components},
    }
    if token:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        for path in ("/healthz", "/readyz"):
            found["paths"][path]["get"]["security"] = []
    return found


def _contract_paths() -> Json:
    return {
        "/api-image-encoder": {
            "post": _json_operation(
                "Fingerprint one image", EncodeBody, EncodeAnswer, ("404", *BODY_ERRORS, *STAGE_ERRORS),
                {"request_id": 1, "relative_path": "a.jpg"},
            )
        },
        "/api-contextual-search": {
            "post": _json_operation(
                "Find a fingerprint's neighbors", SearchBody, SearchAnswer, (*BODY_ERRORS, *STAGE_ERRORS)
            )
        },
        "/api-instance-matching": {
            "post": _json_operation(
                "Find the neighbors that show the candidate's picture", MatchBody, MatchAnswer,
                ("404", *BODY_ERRORS, *STAGE_ERRORS), {"candidate": "a.jpg", "neighbors": ["b.jpg", "c.jpg"]},
            )
        },
    }  # fmt: skip


def _duplicate_paths() -> Json:
    form = {"type": "object", "properties": {"image": BINARY}, "required": ["image"]}
    upload = {"multipart/form-data": {"schema": form}, "application/octet-stream": {"schema": BINARY}}
    recent = {
        "name": "recent",
        "in": "query",
        "description": "Start with at most this many past alerts, and as many past dead letters.",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_KEPT, "default": 0},
    }
    return {
        "/v1/duplicates": {
            "post": {
                "summary": "Find the duplicates of an image of yours, with the evidence",
                "description": "One image in each request; it is not stored. At most "
                f"{UPLOAD.max_bytes // 2**20} MiB and {UPLOAD.max_pixels // 10**6} million pixels.",
                "requestBody": {"required": True, "content": upload},
                "responses": _responses(DuplicatesAnswer, (*BODY_ERRORS, *STAGE_ERRORS)),
            }
        },
        "/v1/duplicates/stream": {
            "get": {
                "summary": "Follow alerts and dead letters as Server-Sent Events",
                "description": "An alert event holds a record of the topic duplicates as JSON; a dead-letter event the "
                "path, reason and origin of a message that was set aside. With Last-Event-ID, the stream continues "
                "after that event, as far back as the bridge remembers.",
                "parameters": [recent],
                "responses": {
                    "200": _content("The stream; it does not end.", "text/event-stream", {"type": "string"}),
                    **_errors("422"),
                },
            }
        },
    }


def _image_paths() -> Json:
    side = {
        "name": "side",
        "in": "query",
        "description": "The most pixels of its longer side.",
        "schema": {"type": "integer", "minimum": MIN_SIDE, "maximum": MAX_SIDE, "default": DEFAULT_SIDE},
    }
    return {
        "/v1/images": {
            "post": _json_operation(
                "Announce an image", ImageBody, AnnounceAnswer, ("404", *BODY_ERRORS, "503"),
                {"relative_path": "a.jpg"}, "202",
            )
        },
        "/v1/images/{path}": {
            "parameters": [IMAGE_PATH],
            "get": {
                "summary": "Get the state of an image's newest announcement",
                "description": "404 if it was not announced, as far back as the topics go.",
                "responses": _responses(ImageStateAnswer, ("404", "422", "503")),
            },
            "delete": {
                "summary": "Announce that an image is removed",
                "responses": _responses(AnnounceAnswer, ("404", "422", "503"), "202"),
            },
        },
        "/v1/pictures/{path}": {
            "parameters": [IMAGE_PATH],
            "get": {
                "summary": "Get a small picture of an image, as JPEG",
                "parameters": [side],
                "responses": {
                    "200": _content("The picture.", "image/jpeg", BINARY),
                    **_errors("404", "413", "415", "422", "503"),
                },
            },
        },
    }  # fmt: skip


def _operation_paths() -> Json:
    not_ready = _responses(Health, ())["200"] | {"description": "Not now."}
    return {
        "/v1/status": {
            "get": {
                "summary": "Get every stage's lag, rate and processes, and dead letters",
                "responses": _responses(StatusAnswer, ()),
            }
        },
        "/healthz": {"get": {"summary": "Whether the bridge serves", "responses": _responses(Health, ())}},
        "/readyz": {
            "get": {
                "summary": "Whether Kafka and its topics can be reached",
                "responses": _responses(Health, ()) | {"503": not_ready},
            }
        },
        "/metrics": {
            "get": {
                "summary": "Metrics for Prometheus",
                "responses": {"200": _content("Metrics.", "text/plain", {"type": "string"})},
            }
        },
    }


def _with_errors(item: Json, statuses: tuple[str, ...]) -> Json:
    for method, operation in item.items():
        if method != "parameters":
            operation["responses"] |= _errors(*statuses)
    return item


def _json_operation(
    summary: str,
    body: type[Struct],
    answer: type[Struct],
    errors: tuple[str, ...],
    example: Json | None = None,
    status: str = "200",
) -> Json:
    content: Json = {"schema": _ref(body)}
    if example is not None:
        content["example"] = example
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": _responses(answer, errors, status),
    }


def _responses(answer: type[Struct], errors: tuple[str, ...], status: str = "200") -> Json:
    return {status: _content("Success.", "application/json", _ref(answer)), **_errors(*errors)}


def _errors(*statuses: str) -> Json:
    return {status: _content(ERRORS[status], "application/json", _ref(Failure)) for status in statuses}


def _content(description: str, content_type: str, schema: Json) -> Json:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def _ref(kind: type[Struct]) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


DOCUMENT = web.AppKey("document", dict)


async def openapi(request: web.Request) -> web.Response:
    """Handle GET /openapi.json."""
    return json_response(request.app[DOCUMENT])
