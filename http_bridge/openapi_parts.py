"""Parts of which the OpenAPI document is put together."""

from typing import Any, Literal

from msgspec import Struct

Json = dict[str, Any]


class Empty(Struct, forbid_unknown_fields=True):
    """An empty object."""


class Failure(Struct):
    """The envelope of a failed request; error_message says why, and names the field at fault."""

    global_status: Literal[0]
    error_message: str
    response: Empty


ERRORS = {
    "400": "The body is not valid JSON.",
    "401": "A bearer token is needed.",
    "403": "The request comes from a web page of another origin.",
    "404": "There is no such image, group, decision or dead letter.",
    "408": "The body did not arrive in time, or too many were arriving and it was the furthest behind.",
    "409": "Others have decided meanwhile, and the answer names what they said; or another replay began.",
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

BINARY: Json = {"type": "string", "format": "binary"}


def json_operation(
    summary: str,
    body: type[Struct],
    answer: type[Struct],
    failures: tuple[str, ...],
    example: Json | None = None,
    status: str = "200",
) -> Json:
    """Return an operation that takes and returns JSON."""
    taken: Json = {"schema": ref(body)}
    if example is not None:
        taken["example"] = example
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": taken}},
        "responses": responses(answer, failures, status),
    }


def responses(answer: type[Struct], failures: tuple[str, ...], status: str = "200") -> Json:
    """Return the responses of an operation that returns JSON."""
    return {status: content("Success.", "application/json", ref(answer)), **errors(*failures)}


def errors(*statuses: str) -> Json:
    """Return the responses for these statuses."""
    return {status: content(ERRORS[status], "application/json", ref(Failure)) for status in statuses}


def content(description: str, content_type: str, schema: Json) -> Json:
    """Return a response with content."""
    return {"description": description, "content": {content_type: {"schema": schema}}}


def ref(kind: type[Struct]) -> Json:
    """Return a reference to the schema of a type."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
