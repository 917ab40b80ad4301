from io import StringIO

import pytest
from rich.console import Console

from cli.find_results import FindResults
from cli.supervising.stage_bars import StageBars


def test_where_there_is_no_terminal_a_line_does_not_repeat_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # as if each call came after the interval of changes, and before that of repetitions
    monkeypatch.setattr("cli.supervising.stage_bars.PLAIN_EVERY_S", -1.0)
    file = StringIO()
    results = FindResults(83)
    with StageBars(results, Console(file=file, width=100)) as bars:
        for results.encoded in (0, 0, 0, 7, 7, 9):
            bars.show()
    assert file.getvalue().splitlines() == [
        "of 83 images: none yet, the stages are starting",
        "of 83 images: encoder 7, search 0, matcher 0",
        "of 83 images: encoder 9, search 0, matcher 0",
    ]
