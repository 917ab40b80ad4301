"""What the grouping stage knows: images, verified pairs, answers of comparisons, decisions, and the groups of these.

Each thing known is a fact with a key of its own. A change gives the facts that say it, and the facts, read in order,
give the same state again.
"""

from collections.abc import Iterator, Mapping

from imagetools.grouping.grouping import Grouping
from imagetools.grouping.records import (
    Choice,
    Compare,
    Decision,
    Edge,
    EventKind,
    Gone,
    GroupEvent,
    GroupingChange,
    ImageKey,
    Placed,
    Undone,
)
from imagetools.grouping.relations import Relation
from schemas.group_records import DecisionRecord, FactKind, GroupingFact, SeenFile
from schemas.records import Duplicate
from streams.grouping.facts import (
    GONE,
    KnownImage,
    answer_fact,
    answer_id,
    edge_fact,
    edge_id,
    fact_id,
    image_fact,
)
from streams.grouping.image_metadata import NO_METADATA, ImageMetadata
from streams.grouping.known_pairs import KnownPairs
from streams.grouping.old_pairs import OLD_PAIR, OldPairs, old_pair_fact
from streams.grouping.pair_comparer import relation_named, relation_of_duplicate
from streams.grouping.pair_marks import PairMarks, marks_of
from streams.standing_decisions import Pair, StandingDecisions, image_key


class GroupingState:
    """Everything known, and the groups. Changes wait until `settle`.

    grouping   the groups
    decisions  people's decisions
    images     by path, those that there are
    metadata   theirs
    """

    def __init__(self, compare: Compare) -> None:
        """compare: as in `Grouping`; its answers are facts, and no pair that has one is compared again."""
        self.grouping = Grouping(self._compared)
        self.decisions = StandingDecisions()
        self.images: dict[str, KnownImage] = {}
        self.metadata = ImageMetadata()
        self._compare = compare
        self._known = KnownPairs(self.grouping, self._is_there)
        self._looks: dict[ImageKey, SeenFile] = {}
        self._old_pairs = OldPairs()
        self._next_place = 0
        self._changes: list[GroupingChange] = []
        self._facts: dict[str, GroupingFact | None] = {}
        self._pairs: dict[Pair, tuple[Edge | None, PairMarks]] = {}
        self._described: set[ImageKey] = set()
        self._touched: dict[ImageKey, None] = {}
        self._dividing = False

    # changes

    def place(
        self,
        path: str,
        content: bytes,
        announced: int,
        source: int,
        metadata: Mapping[str, str] = NO_METADATA,
        *,
        silent: bool | None = None,
    ) -> None:
        """Take the bytes that a path has now, and its metadata. What another partition announced later stands.

        silent  whether it came silently; at the same bytes, the first time counts
        """
        known = self.images.get(path)
        if known is not None and known.source != source and known.announced > announced:
            return
        image = ImageKey(path, content.hex())
        place = self._next_place if known is None or known.key != image else known.place
        if place == self._next_place:
            self._leave(path)
            self._touched[image] = None
            self._next_place += 1
            self._changes.append(Placed(*image, place))
        elif known is not None:
            silent = known.silent
        self.images[path] = KnownImage(image, place, announced, source, silent)
        if self.metadata.put(path, metadata):
            self._described.add(image)
        self._facts[path] = self._image_fact(path)
        for fact in self._old_pairs.known_with(path, self.images):
            self._put_old_pair(fact)

    def remove(self, path: str, announced: int, source: int) -> None:
        """Forget a path that has no image any more. What another partition announced later stands."""
        known = self.images.get(path)
        if known is None or (known.source != source and known.announced > announced):
            return
        self._leave(path)
        self.metadata.forget(path)
        del self.images[path]
        self._changes.append(Gone(path))
        self._facts[path] = None

    def put_pair(self, candidate: ImageKey, other: ImageKey, duplicate: Duplicate) -> None:
        """Take a pair of an alert."""
        relation = relation_of_duplicate(duplicate)
        self._put_edge(Edge(candidate, other, relation, duplicate.score), marks_of(duplicate, relation))

    def put_old_pair(self, candidate: str, duplicate: Duplicate) -> None:
        """Take a pair of an alert of an earlier version: it is about the bytes that both paths have, or get first."""
        paths = candidate, duplicate.relative_path
        if paths[0] == paths[1]:
            return
        fact = old_pair_fact(*paths, duplicate)
        if all(path in self.images for path in paths):
            self._put_old_pair(fact)
        else:
            self._old_pairs.put(fact)
            self._facts[fact.id] = fact

    def decide(self, decision_id: str, place: int, record: DecisionRecord | None) -> None:
        """Take a decision; None: it is undone."""
        key = fact_id("d", decision_id)
        self._change_words(self.decisions.put(key, place, record))
        fact = GroupingFact(key, FactKind.DECISION, place=place, decision=record)
        self._facts[key] = None if record is None else fact

    def settle(self) -> list[GroupEvent]:
        """Apply the changes; return what became of the groups. What `compare` raises is passed on."""
        changes, self._changes = self._changes, []
        events = self.grouping.apply(changes)
        for pair, before in self._pairs.items():
            edge, marks = self.grouping.edge(*pair), self._known.marks.of(pair)
            if edge is not None and (edge, marks) != before:
                self._facts[edge_id(pair)] = edge_fact(pair, edge, marks)
        self._pairs = {}
        self._facts |= self._known.settle(self._touched)
        self._touched = {}
        # groups in which nothing but metadata has changed have no event yet
        described = {self.grouping.group_of(image) for image in self._described} - {event.group for event in events}
        self._described = set()
        return events + [GroupEvent(EventKind.CHANGED, group) for group in sorted(filter(None, described))]

    def take_facts(self) -> dict[str, GroupingFact | None]:
        """Return the facts that have changed since the last call, by key; None: one that holds no more."""
        facts, self._facts = self._facts, {}
        return facts

    # what files say

    def look(self, image: ImageKey) -> SeenFile | None:
        """Return what an image's file says; None where it was not looked at."""
        return self._looks.get(image)

    def set_look(self, image: ImageKey, look: SeenFile) -> None:
        """Remember what the file of an image that is there says."""
        self._looks[image] = look
        self._facts[image.path] = self._image_fact(image.path)

    def marks(self, one: ImageKey, two: ImageKey) -> PairMarks:
        """Return what the alert on a pair says of its pictures."""
        return self._known.marks.seen_from(one, two)

    # restoring

    def load(self, key: str, fact: GroupingFact | None) -> None:
        """Take a fact from the log; None: it holds no more. `divide` must follow before anything else."""
        if fact is None:
            self._load_end(key)
            return
        images = [image_key(image) for image in fact.images]
        match fact.kind:
            case FactKind.IMAGE:
                (image,) = images
                self._forget_look(image.path)
                if (known := self.images.get(image.path)) is not None and known.place != fact.place:
                    # it went and came back in one batch
                    self._changes.append(Gone(image.path))
                self.images[image.path] = KnownImage(image, fact.place, fact.announced, fact.source, fact.silent)
                self._next_place = max(self._next_place, fact.place + 1)
                self._changes.append(Placed(*image, fact.place))
                self.metadata.put(image.path, fact.metadata)
                if fact.look is not None:
                    self._looks[image] = fact.look
            case FactKind.EDGE if not fact.images[0].content:
                self._old_pairs.put(fact)
            case FactKind.EDGE:
                left, right = images
                self._known.marks.put((left, right), PairMarks((fact.framed[0], fact.framed[1]), fact.covered))
                self._changes.append(Edge(left, right, relation_named(fact.relation), fact.score))
            case FactKind.ANSWER:
                left, right = images
                self._known.answers[left, right] = relation_named(fact.relation)
            case FactKind.DECISION:
                self._change_words(self.decisions.put(key, fact.place, fact.decision))
            case FactKind.GONE:
                self._known.load_gone(key, images[0], fact.announced)
        self._load_changes()

    def divide(self) -> Iterator[None]:
        """Divide what was loaded into groups, in small steps, without comparing anything.

        A pair without an answer had none when the groups were sent, either.
        """
        self._dividing = True
        yield from self.grouping.divide()
        self._dividing = False
        yield from self._known.loaded()

    def _load_end(self, key: str) -> None:
        if key.startswith(f"\0{OLD_PAIR}"):
            self._old_pairs.remove(key)
        elif key.startswith(f"\0{GONE}"):
            self._known.load_end(key)
        elif key.startswith("\0"):
            # pairs end with the fact that their image is gone; of the others only decisions end
            self._change_words(self.decisions.put(key, 0, None))
        elif key in self.images:
            self._forget_look(key)
            del self.images[key]
            self.metadata.forget(key)
            self._changes.append(Gone(key))
        self._load_changes()

    def _load_changes(self) -> None:
        self.grouping.load(self._changes)
        self._changes = []

    # facts

    def _is_there(self, image: ImageKey) -> bool:
        known = self.images.get(image.path)
        return known is not None and known.key == image

    def _image_fact(self, path: str) -> GroupingFact:
        known = self.images[path]
        return image_fact(known, self._looks.get(known.key), self.metadata.of(path))

    def _put_old_pair(self, fact: GroupingFact) -> None:
        left, right = (self.images[image.relative_path].key for image in fact.images)
        marks = PairMarks((fact.framed[0], fact.framed[1]), fact.covered)
        self._put_edge(Edge(left, right, relation_named(fact.relation), fact.score), marks)
        if self._old_pairs.remove(fact.id):
            self._facts[fact.id] = None

    def _put_edge(self, edge: Edge, marks: PairMarks) -> None:
        """Take a pair, with marks in the edge's order."""
        if edge.left == edge.right:
            return
        turned = edge.right < edge.left
        pair = (edge.right, edge.left) if turned else (edge.left, edge.right)
        self._pairs.setdefault(pair, (self.grouping.edge(*pair), self._known.marks.of(pair)))
        self._known.marks.put(pair, PairMarks(marks.framed[::-1], marks.covered) if turned else marks)
        self._changes.append(edge)
        self._touched |= {edge.left: None, edge.right: None}

    def _compared(self, left: ImageKey, right: ImageKey) -> Relation | None:
        """Return the answer of a comparison, which is made once; None where there is none yet."""
        known = self._known.answers.get((left, right))
        if known is None and not self._dividing and (known := self._compare(left, right)) is not None:
            self._known.answers[left, right] = known
            self._facts[answer_id((left, right))] = answer_fact((left, right), known)
        return known

    def _change_words(self, words: Mapping[Pair, Choice | None]) -> None:
        for (one, two), choice in words.items():
            self._changes.append(Undone(one, two) if choice is None else Decision(one, two, choice))

    def _leave(self, path: str) -> None:
        """Prepare for another image at a path, or none."""
        if (known := self.images.get(path)) is not None:
            self._touched[known.key] = None
        self._forget_look(path)

    def _forget_look(self, path: str) -> None:
        if (known := self.images.get(path)) is not None:
            self._looks.pop(known.key, None)
