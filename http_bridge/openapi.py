"""The OpenAPI document; its schemas come from the types that requests are parsed into and answers are written from."""

import msgspec
from aiohttp import web
from msgspec import Struct

from http_bridge.alert_feed import MAX_KEPT
from http_bridge.contracts import EncodeAnswer, EncodeBody, MatchAnswer, MatchBody, SearchAnswer, SearchBody
from http_bridge.duplicates import UPLOAD, DuplicatesAnswer
from http_bridge.image_state import ImageStateAnswer
from http_bridge.images import DEFAULT_SIDE, MAX_SIDE, MIN_SIDE, AnnounceAnswer, ImageBody
from http_bridge.monitor import StatusAnswer
from http_bridge.openapi_dead_letters import DEAD_LETTER_TYPES, dead_letter_paths
from http_bridge.openapi_groups import GROUP_TYPES, group_paths
from http_bridge.openapi_parts import (
    BINARY,
    BODY_ERRORS,
    STAGE_ERRORS,
    Failure,
    Json,
    content,
    errors,
    json_operation,
    responses,
)
from http_bridge.responses import json_response


class Health(Struct):
    """alive, ready, or what is missing."""

    status: str


TYPES = [
    EncodeBody, EncodeAnswer, SearchBody, SearchAnswer, MatchBody, MatchAnswer, ImageBody, AnnounceAnswer,
    ImageStateAnswer, DuplicatesAnswer, StatusAnswer, Health, Failure, *GROUP_TYPES, *DEAD_LETTER_TYPES,
]  # fmt: skip

IMAGE_PATH: Json = {
    "name": "path",
    "in": "path",
    "required": True,
    "description": "The image's path below IMAGES_DIR; it may contain slashes.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 4096},
}


def document(*, token: bool) -> Json:
    """Build the document; token: whether the bridge requires one."""
    _, components = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    paths = _contract_paths() | _duplicate_paths() | _image_paths() | group_paths() | dead_letter_paths()
    paths |= _operation_paths()
    for_all = ("401", "403") if token else ("403",)
    found: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "imagetools",
            "version": "1",
            "description": "Ask the running stream for fingerprints, neighbors and duplicates, follow its alerts, and "
            "decide on its groups.",
        },
        "paths": {path: _with_errors(item, for_all) for path, item in paths.items()},
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
            "post": json_operation(
                "Fingerprint one image", EncodeBody, EncodeAnswer, ("404", *BODY_ERRORS, *STAGE_ERRORS),
                {"request_id": 1, "relative_path": "a.jpg"},
            )
        },
        "/api-contextual-search": {
            "post": json_operation(
                "Find a fingerprint's neighbors", SearchBody, SearchAnswer, (*BODY_ERRORS, *STAGE_ERRORS)
            )
        },
        "/api-instance-matching": {
            "post": json_operation(
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
        "description": "Start with at most this many past events of each kind.",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_KEPT, "default": 0},
    }
    return {
        "/v1/duplicates": {
            "post": {
                "summary": "Find the duplicates of an image of yours, with the evidence",
                "description": "One image in each request; it is not stored. At most "
                f"{UPLOAD.max_bytes // 2**20} MiB and {UPLOAD.max_pixels // 10**6} million pixels.",
                "requestBody": {"required": True, "content": upload},
                "responses": responses(DuplicatesAnswer, (*BODY_ERRORS, *STAGE_ERRORS)),
            }
        },
        "/v1/duplicates/stream": {
            "get": {
                "summary": "Follow alerts, dead letters, groups and decisions as Server-Sent Events",
                "description": "An alert event holds a record of the topic duplicates as JSON, and as `headers` those "
                "of the announcement; a dead-letter event the path, reason and origin of a message that was set aside; "
                "a group event what became of a group; a decision event a person's word, as GET /v1/decisions has it. "
                "With Last-Event-ID, the stream continues after that event, as far back as the bridge remembers.",
                "parameters": [recent],
                "responses": {
                    "200": content("The stream; it does not end.", "text/event-stream", {"type": "string"}),
                    **errors("422"),
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
            "post": json_operation(
                "Announce an image", ImageBody, AnnounceAnswer, ("404", *BODY_ERRORS, "503"),
                {"relative_path": "a.jpg", "metadata": {"sku": "4711"}}, "202",
            )
        },
        "/v1/images/{path}": {
            "parameters": [IMAGE_PATH],
            "get": {
                "summary": "Get the state of an image's newest announcement",
                "description": "404 if it was not announced, as far back as the topics go.",
                "responses": responses(ImageStateAnswer, ("404", "422", "503")),
            },
            "delete": {
                "summary": "Announce that an image is removed",
                "responses": responses(AnnounceAnswer, ("404", "422", "503"), "202"),
            },
        },
        "/v1/pictures/{path}": {
            "parameters": [IMAGE_PATH],
            "get": {
                "summary": "Get a small picture of an image, as JPEG",
                "parameters": [side],
                "responses": {
                    "200": content("The picture.", "image/jpeg", BINARY),
                    **errors("404", "413", "415", "422", "503"),
                },
            },
        },
    }  # fmt: skip


def _operation_paths() -> Json:
    not_ready = responses(Health, ())["200"] | {"description": "Not now."}
    return {
        "/v1/status": {
            "get": {
                "summary": "Get every stage's lag, rate and processes, and dead letters",
                "responses": responses(StatusAnswer, ()),
            }
        },
        "/healthz": {"get": {"summary": "Whether the bridge serves", "responses": responses(Health, ())}},
        "/readyz": {
            "get": {
                "summary": "Whether Kafka and its topics can be reached",
                "responses": responses(Health, ()) | {"503": not_ready},
            }
        },
        "/metrics": {
            "get": {
                "summary": "Metrics for Prometheus",
                "responses": {"200": content("Metrics.", "text/plain", {"type": "string"})},
            }
        },
    }


def _with_errors(item: Json, statuses: tuple[str, ...]) -> Json:
    for method, operation in item.items():
        if method != "parameters":
            operation["responses"] |= errors(*statuses)
    return item


DOCUMENT = web.AppKey("document", dict)


async def openapi(request: web.Request) -> web.Response:
    """Handle GET /openapi.json."""
    return json_response(request.app[DOCUMENT])
