"""The three old endpoints, to the letter: POST with a JSON body."""

from typing import Annotated, Any

import numpy as np
from aiohttp import web
from msgspec import Meta, Struct

from http_bridge.bodies import read_json
from http_bridge.refusals import Refusal, answered
from http_bridge.stages import STAGES, Stages
from schemas.records import EncodeRequest, MatchRequest, SearchRequest

MOST_NEIGHBORS = 1000
MOST_DIMENSIONS = 16_384

Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Path = Annotated[str, Meta(min_length=1, max_length=4096)]


class EncodeBody(Struct, forbid_unknown_fields=True):
    """An image by its path, relative to the source directory."""

    request_id: Whole
    relative_path: Path


class SearchBody(Struct, forbid_unknown_fields=True):
    """A fingerprint, and how many neighbors are wanted."""

    nb_neighbors: Annotated[int, Meta(ge=1, le=MOST_NEIGHBORS)]
    vec_features: Annotated[list[float], Meta(min_length=1, max_length=MOST_DIMENSIONS)]


class MatchBody(Struct, forbid_unknown_fields=True):
    """An image to be checked, and those that it may duplicate."""

    candidate: Path
    neighbors: Annotated[list[Path], Meta(max_length=MOST_NEIGHBORS)]


Share = Annotated[float, Meta(ge=0, le=1)]


class Scored(Struct):
    """An image, and how near or how sure."""

    relative_path: str
    score: Share


class Encoded(Struct):
    """One image's fingerprint, of unit length."""

    request_id: int
    fingerprint: list[float]


class Found(Struct):
    """Neighbors, best first."""

    neighbors: list[Scored]


class Matched(Struct):
    """Those neighbors that show the candidate's picture, best first."""

    duplicated: list[Scored]


class EncodeAnswer(Struct):
    """The encoder's envelope; it has no error_message on success."""

    global_status: int
    response: Encoded


class SearchAnswer(Struct):
    """The search's envelope."""

    global_status: int
    error_message: str
    response: Found


class MatchAnswer(Struct):
    """The matcher's envelope; error_message names neighbors that were left out."""

    global_status: int
    error_message: str
    response: Matched


async def encode(request: web.Request) -> web.Response:
    """POST /api-image-encoder."""
    body = await read_json(request, EncodeBody)
    stages: Stages = request.app[STAGES]
    reply = await stages.ask(EncodeRequest, "relative_path", relative_path=_text("relative_path", body.relative_path))
    return answered(EncodeAnswer(1, Encoded(body.request_id, reply.fingerprint.tolist())))


async def search(request: web.Request) -> web.Response:
    """POST /api-contextual-search."""
    body = await read_json(request, SearchBody)
    stages: Stages = request.app[STAGES]
    reply = await stages.ask(
        SearchRequest, "vec_features", fingerprint=_vector(body.vec_features), nb_neighbors=body.nb_neighbors
    )
    # images that share a fingerprint come together; the contract counts images
    found = [Scored(n.relative_path, _share(n.score)) for n in reply.neighbors[: body.nb_neighbors]]
    return answered(SearchAnswer(1, reply.error_message, Found(found)))


async def match(request: web.Request) -> web.Response:
    """POST /api-instance-matching."""
    body = await read_json(request, MatchBody)
    stages: Stages = request.app[STAGES]
    neighbors = tuple(_text(f"neighbors[{n}]", path) for n, path in enumerate(body.neighbors))
    reply = await stages.ask(
        MatchRequest, "candidate", candidate=_text("candidate", body.candidate), neighbors=neighbors
    )
    duplicated = [Scored(d.relative_path, _share(d.score)) for d in reply.duplicated]
    return answered(MatchAnswer(1, reply.error_message, Matched(duplicated)))


CONTRACTS = {
    "/api-image-encoder": encode,
    "/api-contextual-search": search,
    "/api-instance-matching": match,
}
"""By path, in the order of the settings' contract ports."""


def _text(field: str, path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as exc:
        raise Refusal(422, f"{field} is no valid Unicode") from exc
    return path


def _vector(numbers: list[float]) -> Any:
    with np.errstate(over="ignore"):
        vector = np.asarray(numbers, np.float32)
    for n in np.flatnonzero(~np.isfinite(vector)):
        raise Refusal(422, f"vec_features[{n}] is too large for a 32-bit number")
    if not vector.any():
        raise Refusal(422, "vec_features is zero throughout, and so has no direction")
    return vector


def _share(score: float) -> float:
    return min(1.0, max(0.0, score))
