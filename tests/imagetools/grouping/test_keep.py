from dataclasses import replace
from typing import Any

import pytest

from imagetools.errors import ConfigError
from imagetools.grouping.keep import KEEP_ORDER, FileFacts, suggest
from imagetools.grouping.records import ImageKey

ONE, TWO, THREE = (ImageKey(f"{letter}.jpg", letter) for letter in "abc")
PLAIN = FileFacts(800, 600, 100_000, "JPEG", sharpness=10.0, step=4.0)


def kept(first: FileFacts, second: FileFacts, order: tuple[str, ...] = KEEP_ORDER) -> tuple[ImageKey, tuple[str, ...]]:
    suggestion = suggest([ONE, TWO], {ONE: first, TWO: second}, order)
    return suggestion.keep, suggestion.reasons


@pytest.mark.parametrize(
    ("better", "reason"),
    [
        ({}, "not cropped"),
        ({}, "nothing over it or around it"),
        ({"width": 1600, "height": 1200}, "largest picture"),
        ({"sharpness": 20.0}, "sharper"),
        ({"step": 1.0}, "less compressed"),
    ],
)
def test_the_better_file_is_kept_and_the_reason_said(better, reason):
    flaws = {"not cropped": "cropped", "nothing over it or around it": "written_on"}
    worse: dict[str, Any] = {flaws[reason]: True} if reason in flaws else {}
    assert kept(replace(PLAIN, **worse), replace(PLAIN, **better)) == (TWO, (reason,))
    assert kept(replace(PLAIN, **better), replace(PLAIN, **worse)) == (ONE, (reason,))


def test_of_equal_files_the_earliest_is_kept():
    assert kept(PLAIN, PLAIN) == (ONE, ("earliest",))
    assert kept(PLAIN, PLAIN, ()) == (ONE, ("earliest",))


def test_nearly_equal_sizes_leave_the_choice_to_quality():
    assert kept(replace(PLAIN, width=801), replace(PLAIN, sharpness=20.0)) == (TWO, ("sharper",))


def test_what_is_not_measured_neither_wins_nor_loses():
    assert kept(replace(PLAIN, sharpness=None, step=None), PLAIN) == (ONE, ("earliest",))


def test_the_order_changes_the_choice():
    large_but_cropped = replace(PLAIN, width=4000, cropped=True)
    assert kept(large_but_cropped, PLAIN) == (TWO, ("not cropped",))
    assert kept(large_but_cropped, PLAIN, ("largest", "whole")) == (ONE, ("largest picture",))


def test_reasons_come_in_the_order_in_which_they_weigh():
    facts = {ONE: replace(PLAIN, cropped=True), TWO: PLAIN, THREE: replace(PLAIN, width=1600)}
    suggestion = suggest([ONE, TWO, THREE], facts)
    assert (suggestion.keep, suggestion.reasons) == (THREE, ("not cropped", "largest picture"))


def test_where_all_are_cropped_none_is_preferred_for_it():
    cropped = replace(PLAIN, cropped=True)
    assert kept(cropped, replace(cropped, width=1600)) == (TWO, ("largest picture",))


@pytest.mark.parametrize("order", [("prettiest",), ("whole", "whole")])
def test_an_order_that_makes_no_sense_is_refused(order):
    with pytest.raises(ConfigError, match="the criteria are whole, clean"):
        suggest([ONE], {ONE: PLAIN}, order)
