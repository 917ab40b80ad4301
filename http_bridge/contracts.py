"""The three contract endpoints: POST with a JSON body."""

from typing import Annotated, Any

import numpy as np
from aiohttp import web
from msgspec import Meta, Struct

from http_bridge.bodies import read_json
from http_bridge.errors import HttpError
from http_bridge.responses import json_response
from http_bridge.stage_client import STAGE_CLIENT
from schemas.records import EncodeRequest, MatchRequest, SearchRequest

MAX_NEIGHBORS = 1000
MAX_DIMENSIONS = 16_384

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
ImagePath = Annotated[str, Meta(min_length=1, max_length=4096)]
UnitInterval = Annotated[float, Meta(ge=0, le=1)]


class EncodeBody(Struct, forbid_unknown_fields=True):
    """An image by its path, relative to the source directory."""

    request_id: Int64
    relative_path: ImagePath


class SearchBody(Struct, forbid_unknown_fields=True):
    """A fingerprint, and how many neighbors to return."""

    nb_neighbors: Annotated[int, Meta(ge=1, le=MAX_NEIGHBORS)]
    vec_features: Annotated[list[float], Meta(min_length=1, max_length=MAX_DIMENSIONS)]


class MatchBody(Struct, forbid_unknown_fields=True):
    """An image to check, and the images that it may duplicate."""

    candidate: ImagePath
    neighbors: Annotated[list[ImagePath], Meta(max_length=MAX_NEIGHBORS)]


class ScoredImage(Struct):
    """An image, and how similar it is, or how certain that it is a duplicate."""

    relative_path: str
    score: UnitInterval


class EncodeResult(Struct):
    """One image's fingerprint, of unit length."""

    request_id: int
    fingerprint: list[float]


class SearchResult(Struct):
    """Neighbors, best first."""

    neighbors: list[ScoredImage]


class MatchResult(Struct):
    """The neighbors that show the candidate's picture, best first."""

    duplicated: list[ScoredImage]


class EncodeAnswer(Struct):
    """The encoder's envelope; without error_message on success."""

    global_status: int
    response: EncodeResult


class SearchAnswer(Struct):
    """The search's envelope."""

    global_status: int
    error_message: str
    response: SearchResult


class MatchAnswer(Struct):
    """The matcher's envelope; error_message names neighbors that could not be read."""

    global_status: int
    error_message: str
    response: MatchResult


async def encode(request: web.Request) -> web.Response:
    """Handle POST /api-image-encoder."""
    body = await read_json(request, EncodeBody)
    path = require_unicode("relative_path", body.relative_path)
    reply = await request.app[STAGE_CLIENT].request(EncodeRequest, "relative_path", relative_path=path)
    return json_response(EncodeAnswer(1, EncodeResult(body.request_id, reply.fingerprint.tolist())))


async def search(request: web.Request) -> web.Response:
    """Handle POST /api-contextual-search."""
    body = await read_json(request, SearchBody)
    reply = await request.app[STAGE_CLIENT].request(
        SearchRequest, "vec_features", fingerprint=_vector(body.vec_features), nb_neighbors=body.nb_neighbors
    )
    # the stage counts distinct fingerprints, the contract counts images
    found = [ScoredImage(n.relative_path, clip(n.score)) for n in reply.neighbors[: body.nb_neighbors]]
    return json_response(SearchAnswer(1, reply.error_message, SearchResult(found)))


async def match(request: web.Request) -> web.Response:
    """Handle POST /api-instance-matching."""
    body = await read_json(request, MatchBody)
    candidate = require_unicode("candidate", body.candidate)
    neighbors = tuple(require_unicode(f"neighbors[{n}]", path) for n, path in enumerate(body.neighbors))
    reply = await request.app[STAGE_CLIENT].request(MatchRequest, "candidate", candidate=candidate, neighbors=neighbors)
    duplicated = [ScoredImage(d.relative_path, clip(d.score)) for d in reply.duplicated]
    return json_response(MatchAnswer(1, reply.error_message, MatchResult(duplicated)))


CONTRACTS = {
    "/api-image-encoder": encode,
    "/api-contextual-search": search,
    "/api-instance-matching": match,
}
"""Handlers by path, in the order of the settings' contract ports."""


def clip(score: float) -> float:
    """Clip a score to [0, 1], which rounding may leave."""
    return min(1.0, max(0.0, score))


def require_unicode(field: str, path: str) -> str:
    """Return the text. HttpError 422 if it holds half of a surrogate pair, which no message can hold."""
    try:
        path.encode()
    except UnicodeEncodeError as exc:
        raise HttpError(422, f"{field} is not valid Unicode") from exc
    return path


def _vector(numbers: list[float]) -> Any:
    with np.errstate(over="ignore"):
        vector = np.asarray(numbers, np.float32)
    for n in np.flatnonzero(~np.isfinite(vector)):
        raise HttpError(422, f"vec_features[{n}] is too large for a 32-bit number")
    if not vector.any():
        raise HttpError(422, "vec_features is all zeros and has no direction")
    return vector
