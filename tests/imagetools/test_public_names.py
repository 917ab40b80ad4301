"""`imagetools` offers its public names, and loads nothing for them before they are used."""

import subprocess
import sys
from pathlib import Path

import pytest

import imagetools

HEAVY = {"numpy", "torch", "cv2", "ngtpy", "usearch", "PIL", "openvino", "confluent_kafka", "aiohttp"}


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import imagetools, sys; print(*{name.split('.')[0] for name in sys.modules})"
    where = Path(imagetools.__path__[0]).parent
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=where)
    assert not HEAVY & set(run.stdout.split())


def test_every_public_name_is_there_and_listed_in_order() -> None:
    assert imagetools.__all__ == sorted(imagetools.__all__)
    assert set(imagetools.__all__) <= set(dir(imagetools))
    assert all(getattr(imagetools, name).__name__ == name for name in imagetools.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = imagetools.nothing


def test_a_pair_is_verified_from_one_import() -> None:
    from imagetools import ImageRoot, MatcherConfig, read_features, verify  # noqa: PLC0415 - what the test is about

    images, config = ImageRoot(Path(__file__).parents[2] / "cli" / "samples"), MatcherConfig()
    opener = images.opener("006a85bc.jpg")
    one = read_features(opener, config)
    assert verify(one, one, config, (opener, opener)).score == 1
