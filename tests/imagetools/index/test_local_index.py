"""The local index against counting by brute force, and with crowds that would drown the rest."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetools.index import local_index
from imagetools.index.local_index import LEAST_VOTES, MAX_INDEXED, LocalChange, LocalIndex
from imagetools.index.local_keys import COLUMNS
from imagetools.index.local_votes import HAMMING, LONGEST_LIST, bits_for, count_votes
from imagetools.local_codes import LocalCodes
from tests.imagetools.index.local_pictures import both, codes_of, mirrored, view_of


def brute_force(images: Mapping[int, LocalCodes], query: LocalCodes) -> dict[int, float]:
    """The reference: every code with every other, no list too long; the scores of all images that have enough."""
    bits = bits_for(sum(min(len(codes), MAX_INDEXED) for codes in images.values()))
    asked = []
    for side, codes in enumerate((query.own, query.mirrored)):
        for code, size, direction in zip(np.unpackbits(codes, axis=1), query.size, query.direction, strict=True):
            turn = 128 - int(direction) if side else int(direction)
            asked.append((side, code, int(size), turn))
    rows = [(number, row) for number, held in images.items() for row in range(min(len(held), MAX_INDEXED))]
    held_bits = np.array([np.unpackbits(images[number].own[row]) for number, row in rows])
    hits = []
    for q, (side, code, size, turn) in enumerate(asked):
        unequal = held_bits.reshape(-1, 128) != code
        alike = np.any([~unequal[:, list(column[:bits])].any(axis=1) for column in COLUMNS], axis=0)
        for at in np.flatnonzero(alike & (unequal.sum(axis=1) <= HAMMING)):
            number, row = rows[at]
            larger, turned = int(images[number].size[row]) - size, int(images[number].direction[row]) - turn
            hits.append((q, number, side, larger, turned % 256))
    hit_by = {q: len({number for p, number, *_ in hits if p == q}) for q in range(len(asked))}
    scores: dict[int, float] = {}
    for size_shift in (0, 4):
        for turn_shift in (0, 8):
            cells: dict[tuple[int, ...], set[int]] = {}
            for q, number, side, larger, turned in hits:
                cell = (number, side, (larger + size_shift) // 8, (turned + turn_shift) // 16 % 16)
                cells.setdefault(cell, set()).add(q)
            for (number, *_), voters in cells.items():
                total = sum(1 / math.sqrt(hit_by[q]) for q in voters)
                scores[number] = max(scores.get(number, 0.0), total)
    return {number: score for number, score in scores.items() if score >= LEAST_VOTES}


def found(index: LocalIndex | LocalChange, query: LocalCodes, limit: int = 1000) -> dict[int, float]:
    return {hit.number: hit.votes for hit in index.search(query, limit)}


def index_of(images: Mapping[int, LocalCodes]) -> LocalIndex:
    index = LocalIndex()
    for number, codes in images.items():
        index.add(number, codes)
    return index


def queries() -> list[LocalCodes]:
    """Views of the first pictures: slightly changed, turned, larger, mirrored, two in one; and an unknown one."""
    return [
        codes_of(0),
        view_of(codes_of(1), 1, flips=10),
        view_of(codes_of(2), 2, larger=32, turned=100),
        mirrored(view_of(codes_of(3), 3)),
        both(view_of(codes_of(4), 4), view_of(codes_of(5), 5, larger=-16)),
        view_of(codes_of(6), 6, flips=40),
        codes_of(10**6),
    ]


def test_votes_are_those_of_brute_force():
    # pictures, other views of the same, and images that share a logo
    images = {n: codes_of(n) for n in range(20)}
    images |= {20 + n: view_of(codes_of(n), n, turned=n) for n in range(10)}
    images |= {30 + n: both(codes_of(100 + n), view_of(codes_of(99, 8), n)) for n in range(10)}
    index = index_of(images)
    for query in [*queries(), codes_of(99, 8)]:
        assert found(index, query) == pytest.approx(brute_force(images, query))
    assert found(index, codes_of(10**6)) == {}, "nothing in common"


def test_a_picture_is_found_turned_scaled_mirrored_and_beside_others():
    index = index_of({n: codes_of(n) for n in range(50)})
    firsts = [[hit.number for hit in index.search(query, 2)] for query in queries()]
    assert firsts[:4] == [[0], [1], [2], [3]]
    assert set(firsts[4]) == {4, 5}
    assert firsts[6] == []


def test_votes_that_disagree_about_size_and_direction_count_apart():
    picture = codes_of(1)
    rng = np.random.default_rng(0)
    scattered = LocalCodes(
        picture.own, picture.mirrored, rng.permutation(picture.size), rng.integers(0, 256, 24, np.uint8)
    )
    index = index_of({0: picture, 1: scattered})
    votes = found(index, picture)
    assert votes[0] == pytest.approx(24 / math.sqrt(2))
    assert votes.get(1, 0) < votes[0] / 4


def test_an_image_without_codes_is_no_error_and_finds_nothing():
    index, nothing = index_of({0: codes_of(0)}), codes_of(0, 0)
    index.add(1, nothing)
    index.remove(1)
    index.remove(7)
    assert index.search(nothing, 10) == []
    assert LocalIndex().search(codes_of(0), 10) == []
    assert list(found(index, codes_of(0))) == [0]


def test_numbers_ascend():
    index = index_of({3: codes_of(0)})
    with pytest.raises(ValueError, match="image 3 after image 3"):
        index.add(3, codes_of(1))


def test_only_the_largest_keypoints_are_kept_and_an_image_takes_at_most_5_kb():
    index = index_of({n: codes_of(n, 160) for n in range(400)})
    assert len(index) == 400 * MAX_INDEXED
    assert index.nbytes < 5_000 * 400 + 4 * 2**17 * len(index.segments())
    assert list(found(index, codes_of(7, 160))) == [7]


def test_segments_stay_few_and_batches_answer_as_one(monkeypatch):
    monkeypatch.setattr(local_index, "SMALL", 64)
    whole, parted = LocalIndex(), LocalIndex()
    images = {n: view_of(codes_of(n % 90), n) for n in range(300)}
    for number, codes in images.items():
        whole.add(number, codes)
        change = LocalChange(parted)
        assert change.add(codes) == number
        change.apply()
    assert 2 <= len(parted.segments()) <= 6
    assert sum(map(len, parted.segments())) == len(parted) == len(whole)
    for query in queries():
        assert found(parted, query) == pytest.approx(found(whole, query))


def test_what_is_gone_leaves_the_memory(monkeypatch):
    monkeypatch.setattr(local_index, "SMALL", 256)
    index = index_of({n: codes_of(n) for n in range(200)})
    full = index.nbytes
    for number in range(190):
        index.remove(number)
    assert len(index) == 240
    assert index.nbytes - 2**17 * len(index.segments()) < full / 5
    assert found(index, codes_of(3)) == {}
    assert list(found(index, codes_of(195))) == [195]
    for number in range(190, 200):
        index.remove(number)
    assert len(index) == 0
    assert not index.search(codes_of(195), 10)


def test_5000_near_copies_drown_nothing_and_cost_what_a_cut_list_costs():
    crowd, rare = codes_of(1), codes_of(2)
    images = {n: view_of(crowd, n, flips=3) for n in range(5000)}
    index = index_of(images)
    index.add(5000, rare)
    # a collage of the crowd's picture and the rare one
    collage = both(crowd, view_of(rare, 9))
    assert [hit.number for hit in index.search(collage, 10)] == [5000]
    votes = count_votes(index.segments(), collage, bits=bits_for(len(index)), gone=(), least=0.1)
    assert votes.looked <= 4 * len(collage) * (LONGEST_LIST + len(index.segments()))
    # some of the crowd still have votes, each of little weight
    assert len(votes.numbers) > 1
    assert np.sort(votes.scores)[-2] < 24 / math.sqrt(3000)


def test_a_logo_in_every_tenth_image_weighs_less_than_the_picture():
    logo = codes_of(1, 40)
    images = {n: both(codes_of(1000 + n), view_of(logo, n)) if n % 10 == 0 else codes_of(1000 + n) for n in range(3000)}
    index = index_of(images)
    for number in (50, 51, 1500, 1501):
        # five of its keypoints, and the logo
        picture = codes_of(1000 + number)
        few = LocalCodes(picture.own[:5], picture.mirrored[:5], picture.size[:5], picture.direction[:5])
        best = index.search(both(view_of(few, number, flips=2), view_of(logo, 7)), 10)
        assert best[0].number == number


def test_nothing_shows_before_apply_and_a_dropped_change_leaves_no_trace():
    index = index_of({0: codes_of(0), 1: codes_of(1)})
    change = LocalChange(index)
    number = change.add(codes_of(2))
    change.remove(0)
    assert list(found(change, both(codes_of(0), codes_of(1), codes_of(2)))) == [1, number]
    assert list(found(index, both(codes_of(0), codes_of(1), codes_of(2)))) == [0, 1]
    again = LocalChange(index)
    assert again.add(codes_of(3)) == number
    assert list(found(again, codes_of(2))) == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "replace", "apply", "drop"]), st.integers(0, 7), st.integers(0, 5)),
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_any_sequence_of_changes_agrees_with_a_dictionary(steps):
    """Adds, replacements and removals in any order, across applied and dropped changes, with segments that merge at
    once: searches give what brute force gives among the images that remain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_index, "SMALL", 32)
        index = LocalIndex()
        change = LocalChange(index)
        committed: dict[str, tuple[int, LocalCodes]] = {}
        pending: dict[str, tuple[int, LocalCodes]] = {}
        for seed, (step, name, picture) in enumerate(steps):
            path = f"{name}.jpg"
            match step:
                case "add" | "replace":
                    if path in pending:
                        change.remove(pending[path][0])
                    codes = view_of(codes_of(picture, 10), seed)
                    pending[path] = change.add(codes), codes
                case "remove":
                    if path in pending:
                        change.remove(pending.pop(path)[0])
                case "apply":
                    change.apply()
                    committed = dict(pending)
                    change = LocalChange(index)
                case "drop":
                    pending = dict(committed)
                    change = LocalChange(index)
        for held, view in ((pending, change), (committed, index)):
            images = dict(held.values())
            for picture in range(3):
                query = view_of(codes_of(picture, 10), 77)
                assert found(view, query) == pytest.approx(brute_force(images, query))
