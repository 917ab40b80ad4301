"""What clients send to decide, and the answers."""

from typing import Annotated

from msgspec import Meta, Struct

from http_bridge.contracts import ImagePath, Int64
from http_bridge.group_answers import DecisionAnswer, Digest
from imagetools.grouping.records import Choice

MAX_DECISIONS = 500
"""In one request."""

MAX_IMAGES = 5000
"""In one decision."""

Name = Annotated[str, Meta(max_length=200)]
Note = Annotated[str, Meta(max_length=2000)]


class ImageToDecide(Struct, forbid_unknown_fields=True):
    """An image at one content; without a content, at its present one."""

    relative_path: ImagePath
    content: Digest | None = None


class DecisionBody(Struct, forbid_unknown_fields=True):
    """A person's word on two images or on a group.

    decision  null: undo the one before
    left, right, images, group  two images, or a list of 2 to 5,000; of a group without a list, all of its images
    keep      with duplicate: paths of the images to keep
    expected  number of the newest decision on the images that the person has seen; without it the person has seen none
    """

    decision: Choice | None
    left: ImagePath | None = None
    right: ImagePath | None = None
    images: Annotated[list[ImageToDecide], Meta(min_length=2, max_length=MAX_IMAGES)] | None = None
    group: Annotated[str, Meta(max_length=4096)] = ""
    keep: Annotated[list[ImagePath], Meta(max_length=MAX_IMAGES)] = []
    note: Note = ""
    expected: Int64 | None = None


class DecisionsBody(Struct, forbid_unknown_fields=True):
    """Decisions of one person: if one of them cannot be made, none is. Each is a message of its own."""

    decisions: Annotated[list[DecisionBody], Meta(min_length=1, max_length=MAX_DECISIONS)]
    who: Name = ""


class DecisionsMade(Struct):
    """Decisions that Kafka has stored.

    overtook  decisions of others on the same images that came in the same moment, over another bridge: these hold no
              more; null: the bridge has not read the topic so far yet, and does not know
    """

    decisions: list[DecisionAnswer]
    overtook: list[DecisionAnswer] | None


class DecidedAnswer(Struct):
    """The envelope of decisions; with global_status 0, of those that are stored while others are not."""

    global_status: int
    error_message: str
    response: DecisionsMade


class Conflicts(Struct):
    """Decisions of others that the person has not seen."""

    conflicts: list[DecisionAnswer]


class ConflictAnswer(Struct):
    """The envelope of decisions that were not made."""

    global_status: int
    error_message: str
    response: Conflicts


class DecisionsPage(Struct):
    """Decisions, the newest first.

    cursor  for the next page; null: this is the last
    """

    decisions: list[DecisionAnswer]
    cursor: str | None


class DecisionsAnswer(Struct):
    """The envelope of a list of decisions."""

    global_status: int
    error_message: str
    response: DecisionsPage
