"""What a bucket's notifications say of images: S3's event messages, as MinIO and others send them to Kafka, too."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

import msgspec

from imagetools.errors import ConfigError, ImageToolsError
from imagetools.folder import HIDDEN, NO_IMAGE, UNUSABLE_NAME, skipped_by_name
from imagetools.formats import IMAGE_SUFFIXES
from imagetools.object_keys import key_of
from imagetools.paths import shown

CREATED = ("ObjectCreated:", "ObjectRestore:Completed")
REMOVED = ("ObjectRemoved:", "LifecycleExpiration:")

ELSEWHERE = "of other buckets or prefixes"
OTHER_EVENT = "events of other kinds"


class BadEvent(ImageToolsError):
    """A message that is no notification of a bucket."""


class ObjectChange(NamedTuple):
    """An object was written, or removed; path: relative to the root."""

    path: str
    gone: bool


class PassedOver(NamedTuple):
    """An event that concerns no image; kind: how it is counted."""

    what: str
    kind: str


class _Bucket(msgspec.Struct):
    name: str


class _Object(msgspec.Struct):
    key: str


class _S3(msgspec.Struct):
    bucket: _Bucket
    object: _Object


class _Record(msgspec.Struct, rename="camel"):
    event_name: str
    s3: _S3


class _Message(msgspec.Struct):
    records: list[_Record] | None = msgspec.field(name="Records", default=None)
    event: str = msgspec.field(name="Event", default="")


class BucketEvents:
    """Reads the notifications of one bucket, for the images below one prefix."""

    def __init__(self, root: str) -> None:
        """root: s3://bucket/prefix. ConfigError for another place."""
        if not root.startswith("s3://"):
            raise ConfigError(f"--from-topic follows a bucket of s3://, and IMAGES_DIR is {root}")
        self._bucket, _, prefix = root.removeprefix("s3://").rstrip("/").partition("/")
        self._prefix = f"{unquote(prefix)}/" if prefix else ""

    def read(self, message: bytes | None) -> Sequence[ObjectChange | PassedOver]:
        """Return what a message says, in order. BadEvent."""
        try:
            found = msgspec.json.decode(message or b"", type=_Message)
        except msgspec.DecodeError as exc:
            raise BadEvent(f"is no event of S3: {exc}") from exc
        if found.records is None:
            if found.event:
                # such as s3:TestEvent, which a new notification begins with
                return [PassedOver(shown(found.event), OTHER_EVENT)]
            raise BadEvent("is no event of S3: it has no Records")
        return list(self._changes(found.records))

    def _changes(self, records: Sequence[_Record]) -> Iterator[ObjectChange | PassedOver]:
        for record in records:
            # of S3 alone, keys are encoded as in forms: a space is a plus sign
            key, name = unquote_plus(record.s3.object.key), record.event_name.removeprefix("s3:")
            what = shown(f"{record.s3.bucket.name}/{key}")
            if not name.startswith(CREATED + REMOVED):
                yield PassedOver(f"{shown(name)} of {what}", OTHER_EVENT)
            elif record.s3.bucket.name != self._bucket or not key.startswith(self._prefix):
                yield PassedOver(what, ELSEWHERE)
            elif kind := _not_looked_at(path := key.removeprefix(self._prefix)):
                yield PassedOver(what, kind)
            else:
                yield ObjectChange(path, name.startswith(REMOVED))


def _not_looked_at(path: str) -> str:
    """Return how a listing would count a key that it passes over; empty for an image."""
    if any(part.startswith(".") for part in path.split("/")):
        return HIDDEN if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES else NO_IMAGE
    if not path or path.endswith("/"):
        return NO_IMAGE
    # without an extension only its bytes tell; the encoder looks at them
    skipped = skipped_by_name(path, lambda: "")
    if skipped is not None:
        return skipped.kind
    try:
        return "" if key_of(path) == path else UNUSABLE_NAME
    except ImageToolsError:
        return UNUSABLE_NAME
