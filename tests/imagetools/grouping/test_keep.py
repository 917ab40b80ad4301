from dataclasses import replace
from typing import Any

import pytest

from imagetools.errors import ConfigError
from imagetools.grouping.keep import KEEP_ORDER, FileFacts, Quality, suggest
from imagetools.grouping.records import ImageKey

ONE, TWO, THREE = (ImageKey(f"{letter}.jpg", letter) for letter in "abc")
PLAIN = FileFacts(800, 600, 100_000, "JPEG", quality=Quality(10.0, 1.2, 23.0, None, 30.0))


def kept(first: FileFacts, second: FileFacts, order: tuple[str, ...] = KEEP_ORDER) -> tuple[ImageKey, tuple[str, ...]]:
    suggestion = suggest([ONE, TWO], {ONE: first, TWO: second}, order)
    return suggestion.keep, suggestion.reasons


@pytest.mark.parametrize(
    ("better", "reason"),
    [
        ({}, "not cropped"),
        ({}, "nothing over it or around it"),
        ({"width": 1600, "height": 1200}, "largest picture"),
    ],
)
def test_the_better_file_is_kept_and_the_reason_said(better, reason):
    flaws = {"not cropped": "cropped", "nothing over it or around it": "written_on"}
    worse: dict[str, Any] = {flaws[reason]: True} if reason in flaws else {}
    assert kept(replace(PLAIN, **worse), replace(PLAIN, **better)) == (TWO, (reason,))
    assert kept(replace(PLAIN, **better), replace(PLAIN, **worse)) == (ONE, (reason,))


def with_quality(**quality: float | None) -> FileFacts:
    return replace(PLAIN, quality=replace(PLAIN.quality, **quality))


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        ({"colour": 0.5}, "in colour"),
        ({"sharpness": 6.0, "fineness": 0.5}, "neither blurred nor sharpened"),
        ({"sharpness": 14.0, "fineness": 1.7}, "neither blurred nor sharpened"),
        ({"step": 34.0}, "less compressed"),
        ({"step": 5.8, "earlier": 34.0}, "less compressed"),
        ({"step": 5.8, "earlier": 24.0}, "not saved again"),
        ({"step": 1.0, "earlier": 22.0}, "not saved again"),
    ],
)
def test_the_file_of_better_quality_is_kept_and_the_reason_said(worse, reason):
    assert kept(with_quality(**worse), PLAIN) == (TWO, (reason,))
    assert kept(PLAIN, with_quality(**worse)) == (ONE, (reason,))


@pytest.mark.parametrize(
    "other",
    [
        {"step": 1.0},
        {"step": 5.8},
        {"sharpness": 11.0},
        {"sharpness": 14.0, "fineness": 1.2},
        {"colour": 20.0},
        # of another JPEG than this one
        {"step": 5.8, "earlier": 11.0},
    ],
)
def test_in_doubt_the_earliest_is_kept(other):
    assert kept(with_quality(**other), PLAIN) == (ONE, ("earliest",))
    assert kept(PLAIN, with_quality(**other)) == (ONE, ("earliest",))


def test_a_drawing_that_never_had_colour_is_not_worse_than_its_tinted_scan():
    assert kept(with_quality(colour=0.0), with_quality(colour=2.5)) == (ONE, ("earliest",))


def test_of_equal_files_the_earliest_is_kept():
    assert kept(PLAIN, PLAIN) == (ONE, ("earliest",))
    assert kept(PLAIN, PLAIN, ()) == (ONE, ("earliest",))


def test_nearly_equal_sizes_leave_the_choice_to_quality():
    assert kept(replace(with_quality(step=34.0), width=801), PLAIN) == (TWO, ("less compressed",))


def test_what_is_not_measured_neither_wins_nor_loses():
    assert kept(replace(PLAIN, quality=Quality()), PLAIN) == (ONE, ("earliest",))


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
