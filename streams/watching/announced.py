"""When an image was announced: the time travels with all that follows from the announcement."""

from typing import Any

from streams.stage import Headers, Received
from streams.topics import ANNOUNCED_AT, IMAGES_NEW


def announced_at(received: Received[Any], more: Headers = ()) -> int | None:
    """Return when an image was announced, milliseconds since 1970; None where nothing says it.

    received  the announcement, or what follows from it
    more      headers of an output, which count first: it may be about the image of an earlier message
    """
    if received.topic == IMAGES_NEW.name:
        return received.timestamp
    # a producer's own header of this name stands before the encoder's
    for name, value in reversed((*received.headers, *more)):
        if name == ANNOUNCED_AT and value is not None and value.isdigit():
            return int(value)
    return None
