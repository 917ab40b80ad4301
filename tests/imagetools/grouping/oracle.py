"""Groups by plain loops over all images and pairs, from the definition in docs/design.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Key = tuple[str, str]
JOINS = ("identical", "same", "blank")
RANKING = ("identical", "same", "blank", "crop", "contains", "overlap", "")


def turned(relation: str) -> str:
    return {"crop": "contains", "contains": "crop"}.get(relation, relation)


@dataclass
class Facts:
    """All that is known.

    images     path → content and place
    verdicts   two images in order of their keys → relation of the first to the second, and score
    decisions  the same two → a person's word
    """

    images: dict[str, tuple[str, int]] = field(default_factory=dict)
    verdicts: dict[tuple[Key, Key], tuple[str, float]] = field(default_factory=dict)
    decisions: dict[tuple[Key, Key], str] = field(default_factory=dict)

    def put(self, left: Key, right: Key, relation: str, score: float) -> None:
        if right < left:
            left, right, relation = right, left, turned(relation)
        old = self.verdicts.get((left, right))
        if old is None or (RANKING.index(relation), -score) < (RANKING.index(old[0]), -old[1]):
            self.verdicts[left, right] = relation, score

    def decide(self, left: Key, right: Key, choice: str | None) -> None:
        pair = (min(left, right), max(left, right))
        self.decisions.pop(pair, None)
        if choice is not None:
            self.decisions[pair] = choice


@dataclass(frozen=True)
class Divided:
    """One set of images, in the order of the log, with what leads out of it."""

    members: tuple[Key, ...]
    doubtful: frozenset[tuple[Key, Key]]
    linked: frozenset[tuple[Key, str]]
    decided: bool


class Oracle:
    """The groups of one state of knowledge."""

    def __init__(self, facts: Facts, compare: Callable[[Key, Key], str]) -> None:
        self.facts = facts
        self.compare = compare
        ordered = sorted((place, path, content) for path, (content, place) in facts.images.items())
        self.images: list[Key] = [(path, content) for _, path, content in ordered]
        self.place = {image: number for number, image in enumerate(self.images)}
        self.blocks = self._blocks()

    def verdict(self, one: Key, two: Key) -> tuple[str, float] | None:
        found = self.facts.verdicts.get((min(one, two), max(one, two)))
        if found is None or one < two:
            return found
        return turned(found[0]), found[1]

    def word(self, one: Key, two: Key) -> str | None:
        return self.facts.decisions.get((min(one, two), max(one, two)))

    def says_one_picture(self, one: Key, two: Key) -> bool:
        found = self.verdict(one, two)
        return found is not None and found[0] in JOINS and self.word(one, two) != "not_duplicate"

    def _blocks(self) -> list[list[Key]]:
        """What people's words hold together; a word that contradicts others and comes later does not count."""
        blocks = [[image] for image in self.images]
        for later in self.images:
            for earlier in self.images[: self.place[later]]:
                if self.word(earlier, later) != "duplicate":
                    continue
                one = next(block for block in blocks if earlier in block)
                two = next(block for block in blocks if later in block)
                if one is two or any(self.word(a, b) == "not_duplicate" for a in one for b in two):
                    continue
                blocks = [block for block in blocks if block is not one and block is not two]
                blocks.append(sorted(one + two, key=self.place.__getitem__))
        return sorted(blocks, key=lambda block: self.place[block[0]])

    def one_picture(self, block: list[Key], leader: list[Key]) -> bool:
        if any(self.says_one_picture(a, b) for a in block for b in leader):
            return True
        first, head = block[0], leader[0]
        found = self.verdict(first, head)
        if found is not None:
            return found[0] in JOINS
        if first[1] == head[1]:
            return True
        return self.compare(min(first, head), max(first, head)) in JOINS

    def touches(self, block: list[Key], members: list[Key]) -> bool:
        return any(self.says_one_picture(a, b) or self.word(a, b) == "duplicate" for a in block for b in members)

    def divide(self) -> list[list[Key]]:
        left, groups = list(self.blocks), []
        while left:
            leader = left.pop(0)
            members, refused = list(leader), list[list[Key]]()
            while True:
                reached = [block for block in left if block not in refused and self.touches(block, members)]
                if not reached:
                    break
                block = reached[0]
                apart = any(self.word(a, b) == "not_duplicate" for a in block for b in members)
                if apart or not self.one_picture(block, leader):
                    refused.append(block)
                else:
                    members += block
                    left.remove(block)
            groups.append(sorted(members, key=self.place.__getitem__))
        return groups

    def groups(self) -> Mapping[Key, Divided]:
        """By id, those with two images or with something that leads out of them."""
        all_groups = self.divide()
        group_of = {image: members[0] for members in all_groups for image in members}
        found = {}
        for members in all_groups:
            doubtful, linked = set(), set()
            for a in members:
                for b in self.images:
                    verdict = self.verdict(a, b)
                    if group_of[b] == members[0] or self.word(a, b) == "not_duplicate":
                        continue
                    if self.word(a, b) == "duplicate" or self.says_one_picture(a, b):
                        doubtful.add((a, b))
                    elif verdict is not None:
                        linked.add((group_of[b], verdict[0]))
            # the strongest relation to each other group
            best = dict[Key, str]()
            for group, relation in linked:
                if group not in best or RANKING.index(relation) < RANKING.index(best[group]):
                    best[group] = relation
            if len(members) > 1 or doubtful or linked:
                whole = len(members) > 1 and not doubtful and self.connected_by_words(members)
                found[members[0]] = Divided(tuple(members), frozenset(doubtful), frozenset(best.items()), whole)
        return found

    def connected_by_words(self, members: list[Key]) -> bool:
        reached = {members[0]}
        for _ in members:
            reached |= {b for a in reached for b in members if self.word(a, b) == "duplicate"}
        return len(reached) == len(members)
