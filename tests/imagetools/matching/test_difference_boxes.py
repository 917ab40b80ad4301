"""Boxes of what differs: letters become words, and places stay apart."""

import random

import pytest

from bench.documents import document
from imagetools.features.extract import extract
from imagetools.matching.config import MatcherConfig
from imagetools.matching.difference_boxes import merge_boxes
from imagetools.matching.verify import verify

LETTERS = [(0.1, 0.1, 0.12, 0.13), (0.125, 0.1, 0.14, 0.13), (0.145, 0.105, 0.16, 0.13)]


def test_letters_of_a_word_are_one_box() -> None:
    pairs = [(box, (box[0], box[1], box[2], box[3] + 0.01)) for box in LETTERS]
    assert merge_boxes(pairs) == (((0.1, 0.1, 0.16, 0.13), (0.1, 0.1, 0.16, 0.14)),)


def test_a_box_inside_another_goes() -> None:
    outer, inner = (0.1, 0.1, 0.5, 0.5), (0.2, 0.2, 0.21, 0.21)
    assert merge_boxes([(outer, outer), (inner, inner)]) == ((outer, outer),)


def test_places_that_are_apart_in_one_picture_stay_apart() -> None:
    far = (0.8, 0.8, 0.82, 0.83)
    pairs = [(LETTERS[0], LETTERS[0]), (LETTERS[1], far)]
    assert set(merge_boxes(pairs)) == set(pairs)


def test_a_row_and_a_column_do_not_become_the_picture() -> None:
    row, column = (0.1, 0.1, 0.9, 0.12), (0.1, 0.12, 0.12, 0.9)
    assert len(merge_boxes([(row, row), (column, column)])) == 2


def test_the_order_of_the_pictures_does_not_matter() -> None:
    rng = random.Random(3)
    boxes = []
    for _ in range(400):
        left, top = rng.random() * 0.9, rng.random() * 0.9
        boxes.append((left, top, left + rng.random() * 0.03, top + rng.random() * 0.02))
    pairs = [(box, (box[0], box[1], box[2] + 0.01, box[3])) for box in boxes]
    there = merge_boxes(pairs)
    back = merge_boxes([(second, first) for first, second in pairs])
    assert there == tuple((first, second) for second, first in back)
    assert 1 < len(there) < 256


def test_nothing_stays_nothing() -> None:
    assert merge_boxes([]) == ()


@pytest.mark.parametrize(("kind", "at_most"), [("form", 13), ("poster", 1)])
def test_an_entry_of_a_document_is_one_place(kind: str, at_most: int) -> None:
    config, pages = MatcherConfig(), (document(kind, 2, 2), document(kind, 2, 3))
    one, two = (extract(page, config) for page in pages)
    found = verify(one, two, config, (lambda box: pages[0], lambda box: pages[1]))
    assert 0 < len(found.regions) <= at_most
