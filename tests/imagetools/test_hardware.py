"""What the machine offers."""

from pathlib import Path

import pytest

from imagetools.hardware import usable_cores


@pytest.fixture
def every() -> int:
    """The cores of this process without a limit of its time."""
    return usable_cores(Path("nowhere"))


@pytest.mark.parametrize(("limit", "cores"), [("100000 100000", 1), ("150000 100000", 2), ("20000 100000", 1)])
def test_a_container_with_little_time_has_few_cores(tmp_path: Path, every: int, limit: str, cores: int) -> None:
    """A pod that is limited to one core of 64 must not start 64 threads."""
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path) == min(every, cores)


def test_the_first_version_of_control_groups_is_read(tmp_path: Path, every: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert usable_cores(tmp_path) == every


@pytest.mark.parametrize("limit", ["max 100000", "", "soon", "6400000 100000"])
def test_without_a_limit_or_an_unreadable_one_all_cores_are_used(tmp_path: Path, every: int, limit: str) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path) == every
