"""Cells of CSV that no spreadsheet takes for a formula, written and read."""

from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet takes for a formula, or may once white space is gone."""


def as_cell(value: object) -> object:
    """Return what a cell holds: text that a spreadsheet would take for a formula begins with an apostrophe."""
    # a name of a file may come from anyone, and a formula can read other cells and open addresses
    return f"'{value}" if isinstance(value, str) and _may_be_formula(value) else value


def from_cell(text: str) -> str:
    """Return the text for which `as_cell` wrote a cell."""
    return text[1:] if text.startswith("'") and _may_be_formula(text) else text


def _may_be_formula(text: str) -> bool:
    # text that has apostrophes of its own before a formula gets one more, so that it can be told apart when it is read
    return text.lstrip("'").startswith(_FORMULA)
