"""The OpenAPI document's paths of dead letters."""

from http_bridge.dead_letters import MAX_WORD, DeadLettersAnswer, ReplayAnswer, ReplayBody
from http_bridge.groups import DEFAULT_LIMIT, MAX_LIMIT, YES_OR_NO
from http_bridge.openapi_parts import BODY_ERRORS, Json, json_operation, responses

DEAD_LETTER_TYPES = [DeadLettersAnswer, ReplayBody, ReplayAnswer]


def dead_letter_paths() -> Json:
    """Return the paths."""
    failures = ("404", "409", *BODY_ERRORS, "503")
    replay = json_operation("Send dead letters back", ReplayBody, ReplayAnswer, failures, {"letters": ["0"]})
    replay["description"] = (
        "To the topics that they came from, in one transaction. No letter is sent back twice, here or by "
        "`imagetools dead-letters replay`."
    )
    text: Json = {"type": "string", "maxLength": MAX_WORD}
    cursor: Json = {"type": "string", "pattern": r"^([0-9]{1,15}-[0-9]{1,9}-[0-9]{1,18})?$"}
    limit: Json = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    parameters = {
        "stage": ("The stage that set it aside.", text),
        "type": ("The type of error, such as MissingImage.", text),
        "sent_back": ("Whether it was sent back.", {"type": "string", "enum": list(YES_OR_NO)}),
        "limit": ("The most on a page.", limit),
        "cursor": ("From the answer before.", cursor),
    }
    return {
        "/v1/dead-letters": {
            "get": {
                "summary": "List the messages that were set aside, the newest first",
                "description": "As far back as the topic goes.",
                "parameters": [
                    {"name": name, "in": "query", "description": description, "schema": schema}
                    for name, (description, schema) in parameters.items()
                ],
                "responses": responses(DeadLettersAnswer, ("422", "503")),
            }
        },
        "/v1/dead-letters/replay": {"post": replay},
    }
