"""The images of a decision that a client sends, with the contents that it leaves out."""

import asyncio
from collections.abc import Sequence

import msgspec

from http_bridge.contracts import require_unicode
from http_bridge.decision_bodies import MAX_IMAGES, DecisionBody, ImageToDecide
from http_bridge.errors import HttpError
from http_bridge.group_answers import GroupContents
from http_bridge.images import Images
from http_bridge.topic_view import TopicView
from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.grouping.records import Choice
from imagetools.paths import shown
from schemas.group_records import ImageContent


class ChosenImages:
    """The images of one request's decisions; a file that several of them name is read once."""

    def __init__(self, view: TopicView, images: Images) -> None:
        """Read nothing yet."""
        self._view = view
        self._images = images
        self._digests: dict[str, bytes] = {}

    async def of(self, field: str, body: DecisionBody) -> tuple[ImageContent, ...]:
        """Return the images at the contents that the client, the view or the files have. HttpError 404, 422."""
        if body.images is not None:
            named = body.images
        elif body.left is not None and body.right is not None:
            named = [ImageToDecide(body.left), ImageToDecide(body.right)]
        elif body.group:
            members = await asyncio.to_thread(self._members, field, body.group)
            _require_sense(field, body, [one.relative_path for one in members])
            return members
        else:
            raise HttpError(422, f"{field}: left and right, images, or group are needed")
        # before any file is read
        _require_sense(field, body, [one.relative_path for one in named])
        return tuple([await self._with_content(field, one) for one in named])

    def _members(self, field: str, group: str) -> tuple[ImageContent, ...]:
        rows = self._view.query("SELECT contents, member_count FROM groups WHERE id = ?", [group])
        if not rows:
            raise HttpError(404, f"{field}.group: there is no group {shown(group)}")
        members = msgspec.json.decode(rows[0][0], type=GroupContents).members
        if len(members) < rows[0][1]:
            raise HttpError(422, f"{field}.group: it has {rows[0][1]:,} images; name the images that you decide on")
        return tuple(ImageContent(one.relative_path, bytes.fromhex(one.content)) for one in members)

    async def _with_content(self, field: str, image: ImageToDecide) -> ImageContent:
        path = require_unicode(f"{field}.{shown(image.relative_path)}", image.relative_path)
        if image.content is not None:
            return ImageContent(path, bytes.fromhex(image.content))
        known = await asyncio.to_thread(self._view.query, "SELECT content FROM members WHERE path = ? LIMIT 1", [path])
        if known:
            return ImageContent(path, bytes.fromhex(known[0][0]))
        try:
            if path not in self._digests:
                self._digests[path] = await self._images.digest(path)
            return ImageContent(path, self._digests[path])
        except (ImageError, ImageRootUnavailable) as exc:
            said = await asyncio.to_thread(self._decided_content, path)
            if said is None:
                reason = f"{field}: the content of {shown(path)} is not known here; give its SHA-256 as content ({exc})"
                raise HttpError(422, reason) from exc
            return ImageContent(path, said)

    def _decided_content(self, path: str) -> bytes | None:
        """Return the content at which a person decided on an image last."""
        rows = self._view.query(
            "SELECT content FROM decided_images WHERE path = ? ORDER BY number DESC LIMIT 1", [path]
        )
        return bytes.fromhex(rows[0][0]) if rows else None


def _require_sense(field: str, body: DecisionBody, paths: Sequence[str]) -> None:
    if len(set(paths)) < len(paths):
        raise HttpError(422, f"{field}: an image is named twice")
    if not 2 <= len(paths) <= MAX_IMAGES:
        raise HttpError(422, f"{field}: {len(paths):,} images; from 2 to {MAX_IMAGES:,} are needed")
    if body.decision is Choice.NOT_DUPLICATE and len(paths) != 2:
        raise HttpError(422, f"{field}: not_duplicate is about two images; send a decision for each pair")
    if body.keep and body.decision is not Choice.DUPLICATE:
        raise HttpError(422, f"{field}.keep: it goes with the decision duplicate")
    if len(set(body.keep)) < len(body.keep):
        raise HttpError(422, f"{field}.keep: an image is named twice")
    for path in set(body.keep) - set(paths):
        raise HttpError(422, f"{field}.keep: {shown(path)} is none of the images")
