"""What two pictures show of each other, and why they are no duplicates, in words."""

from dataclasses import replace
from typing import Any

import pytest

from imagetools.matching.relation import RELATIONS, Relation
from imagetools.matching.relation_words import relation_in_words, why_no_duplicate
from imagetools.matching.verify import MAX_REGIONS, Verification

BOX = (0.0, 0.0, 0.5, 0.5)
UNRELATED = Verification(0.0, False, 0, 0.25, False, 1.0, 0.0, 1.0, 1.0, "", (), "")


def test_each_relation_has_words_of_its_own() -> None:
    words = [relation_in_words(relation, "A", "B") for relation in RELATIONS]
    assert len(set(words)) == len(RELATIONS)
    assert words[RELATIONS.index("")] == ""


def test_parts_name_the_pictures() -> None:
    assert relation_in_words("contains", "A", "B") == "one shows a part of the other: A contains B"
    assert relation_in_words("crop", "A", "B") == "one shows a part of the other: B contains A"


@pytest.mark.parametrize(
    ("relation", "more", "words"),
    [
        ("template", {}, "same template, other content"),
        ("template", {"regions": ((BOX, BOX),)}, "same template, other content at one place"),
        ("template", {"regions": ((BOX, BOX),) * 3}, "same template, other content at 3 places"),
        ("template", {"regions": ((BOX, BOX),) * MAX_REGIONS}, "same template, other content at 64 or more places"),
        ("moved", {"moved": 0.251}, "same scene, in which something moved over 25 % of it"),
        ("recoloured", {"recoloured": 33.7}, "same picture in other colours, which differ by 34 (CIE76)"),
        ("blank", {}, "both are blank, and not equal in every pixel"),
        ("", {"gate": "too few close codes"}, "they have no details in common"),
        (
            "",
            {"gate": "pictures disagree"},
            "laid over each other, 25 % of what they show agrees, and the rest does not",
        ),
    ],
)
def test_the_reason_fits(relation: Relation, more: dict[str, Any], words: str) -> None:
    assert why_no_duplicate(replace(UNRELATED, relation=relation, **more)) == words
