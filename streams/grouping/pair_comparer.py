"""Compare two files in this process, as the matcher would."""

from imagetools.errors import ImageError
from imagetools.features.cache import FeatureCache
from imagetools.grouping.records import ImageKey
from imagetools.grouping.relations import Relation
from imagetools.matching.config import MatcherConfig
from imagetools.matching.relation import relation_of
from imagetools.matching.verify import verify
from schemas.records import Duplicate
from streams.grouping.announced_files import AnnouncedFiles


class PairComparer:
    """Says what two files are to each other; fits `Grouping`."""

    def __init__(self, files: AnnouncedFiles, config: MatcherConfig, cache: FeatureCache) -> None:
        """cache: of features; the caller closes it."""
        self._files = files
        self._images = files.images
        self._config = config
        self._cache = cache

    def __call__(self, left: ImageKey, right: ImageKey) -> Relation | None:
        """Return what left is to right; None where one of them cannot be read now, or has other bytes.

        ImageRootUnavailable.
        """
        openers = self._images.opener(left.path), self._images.opener(right.path)
        try:
            if not (self._files.unchanged(left) and self._files.unchanged(right)):
                return None
            features = [self._cache.get(self._images, image.path) for image in (left, right)]
            found = verify(features[0], features[1], self._config, openers)
            # a file that has changed meanwhile gave an answer for other bytes
            if not (self._files.unchanged(left) and self._files.unchanged(right)):
                return None
        except ImageError:
            # the encoder has read these bytes: the file may be back later
            return None
        return relation_named(found.relation) if found.duplicate else Relation.NONE


def relation_of_duplicate(duplicate: Duplicate) -> Relation:
    """Return what an alert's candidate is to the duplicate; from the coverage where the record has no relation."""
    if duplicate.relation:
        return relation_named(duplicate.relation)
    if duplicate.edit == "the same file":
        return Relation.IDENTICAL
    covered = duplicate.coverage_candidate, duplicate.coverage_neighbor
    return Relation(relation_of(*covered, 1.0, flat=(0.0, 0.0)))


def relation_named(name: str) -> Relation:
    """Return the relation that groups images, of one that a record names; nothing for one that does not group."""
    return Relation(name) if name in list(Relation) else Relation.NONE
