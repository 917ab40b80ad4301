"""The lock: it covers what pyproject.toml asks for, on every platform, and names no index."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ASKED = [Requirement(text) for text in (*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra))]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = [Requirement(line) for line in LOCK.splitlines() if line and not line.startswith("#")]

PLATFORMS = [
    {"python_full_version": f"3.{minor}.0", "python_version": f"3.{minor}", "sys_platform": system,
     "platform_system": name, "platform_machine": machine}
    for minor in (11, 12, 13, 14)
    for system, name, machine in (
        ("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"),
        ("darwin", "Darwin", "x86_64"),
    )
]  # fmt: skip


def applies(requirement: Requirement, platform: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": "", **platform})


@pytest.mark.parametrize(
    "platform", PLATFORMS, ids=lambda p: f"{p['python_version']}-{p['sys_platform']}-{p['platform_machine']}"
)
def test_whatever_is_asked_for_has_one_version_within_its_range(platform):
    versions: dict[str, str] = {}
    for one in LOCKED:
        if applies(one, platform):
            name = canonicalize_name(one.name)
            assert name not in versions, f"{name} has two versions"
            (pin,) = one.specifier
            assert pin.operator == "=="
            versions[name] = pin.version
    for one in ASKED:
        if canonicalize_name(one.name) == PROJECT["name"] or not applies(one, platform):
            continue
        assert one.specifier.contains(versions[canonicalize_name(one.name)], prereleases=True), one


def test_no_index_is_named():
    assert not re.search(r"https?:|--(extra-)?index|--find-links| @ ", LOCK)


def test_whatever_is_needed_to_run_is_bounded_above():
    """Any of the next major versions may break the package. `packaging` counts its versions by the year."""
    for text in PROJECT["dependencies"]:
        one = Requirement(text)
        assert one.name == "packaging" or any(spec.operator == "<" for spec in one.specifier), text


def test_no_page_and_no_message_names_the_other_project_of_that_name():
    """The imagetools of PyPI is not this one."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Dockerfile", ROOT / "Makefile"]
    code = [
        path
        for room in ("imagetools", "streams", "http_bridge", "training", "cli", "bench")
        for path in (ROOT / room).rglob("*.py")
    ]
    for path in (*pages, *code):
        assert not re.search(r"install ['\"]?imagetools(?!-kafka)", path.read_text()), path
