"""Segments against sorting all keys by brute force."""

import numpy as np
import pytest

from imagetools.index.local_keys import COLUMNS, KEY_BITS, TABLES, keys_of
from imagetools.index.local_segment import Stored, joined, make_segment, merged, with_images, without


def stored_of(seed: int, first: int, images: int, each: int, *, values: int = 256) -> Stored:
    """Random codes; with few `values` a byte many of them are equal."""
    rng = np.random.default_rng(seed)
    count = images * each
    codes = rng.integers(0, values, (count, 16), np.uint8).view(np.uint64)
    numbers = np.arange(first, first + images, dtype=np.uint32)
    ends = np.arange(each, count + 1, each, dtype=np.uint32)
    return Stored(codes, rng.integers(0, 256, (count, 2), np.uint8), numbers, ends)


def assert_same(one: Stored | None, other: Stored) -> None:
    """Compare all that they hold."""
    assert type(one) is type(other)
    for cls in type(one).__mro__:
        for name in getattr(cls, "__annotations__", {}):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_keys_are_the_chosen_bits_of_a_code():
    codes = np.random.default_rng(0).integers(0, 256, (50, 16), np.uint8)
    bits = np.unpackbits(codes, axis=1)
    for table, keys in enumerate(keys_of(codes)):
        for code, key in zip(bits, keys, strict=True):
            text = "".join(str(code[column]) for column in COLUMNS[table])
            assert int(key) == (table << KEY_BITS) + int(text, 2)


@pytest.mark.parametrize(("images", "values"), [(1, 256), (60, 2), (60, 256), (1500, 256)])
def test_a_position_is_that_among_all_keys_in_order(images, values):
    stored = stored_of(0, 5, images, 100, values=values)
    every = np.sort(keys_of(stored.codes.view(np.uint8)), axis=None)
    rng = np.random.default_rng(1)
    asked = np.concatenate([rng.choice(every, 300), rng.choice(every, 300) + np.uint32(1), [0, TABLES << KEY_BITS]])
    asked = asked.astype(np.uint32)
    for part in (make_segment(stored), with_images(None, stored)):
        np.testing.assert_array_equal(part.positions_of(asked), np.searchsorted(every, asked))
        at = part.rows[:: max(1, len(every) // 500)]
        tables = np.repeat(np.arange(TABLES), len(stored))[:: max(1, len(every) // 500)]
        keys = keys_of(stored.codes.view(np.uint8))[tables, at]
        np.testing.assert_array_equal(keys, every[:: max(1, len(every) // 500)])


def test_merging_gives_what_sorting_gives():
    first, second = stored_of(0, 0, 200, 50, values=4), stored_of(1, 200, 30, 50, values=4)
    recent = with_images(None, stored_of(2, 230, 3, 50, values=4))
    parts = [make_segment(first), make_segment(second), recent]
    assert_same(merged(parts, set()), make_segment(joined(parts)))
    assert_same(merged([recent], set()), make_segment(stored_of(2, 230, 3, 50, values=4)))
    gone = {0, 7, 199, 210, 232}
    assert_same(merged(parts, gone), make_segment(without(joined(parts), gone)[0]))
    assert merged([recent], {230, 231, 232}) is None


def test_images_that_come_one_by_one_are_sorted_as_if_together():
    recent = None
    for n in range(10):
        recent = with_images(recent, stored_of(n, n, 1, 20, values=2))
    assert recent is not None
    together = with_images(None, joined([stored_of(n, n, 1, 20, values=2) for n in range(10)]))
    assert_same(recent, together)
