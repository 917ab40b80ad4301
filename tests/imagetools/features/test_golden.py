"""Features of a few pictures are those that FEATURES_VERSION stands for.

`python -m tests.imagetools.features.test_golden` writes the golden file again.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagetools.features import mbr_sift
from imagetools.features.config import FeatureConfig
from imagetools.features.extract import Features, extract
from imagetools.features.version import FEATURES_VERSION
from tests.support.pictures import SAMPLES, photo

GOLDEN = Path(__file__).with_name("golden_features.json")
MESSAGE = "features have changed: if that is on purpose, count FEATURES_VERSION up and write the golden file again"
KEYPOINTS = 60
"""The largest ones, whose places and codes are stored."""


def _waves(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    channels = [128 + 90 * np.sin(x / (7 + k)) * np.cos(y / (5 + 2 * k)) + 30 * np.sin(x * y / 900) for k in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).round().clip(0, 255).astype(np.uint8))


def _blocks(width: int, height: int) -> Image.Image:
    small = np.random.default_rng(5).integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
    return Image.fromarray(small.repeat(12, axis=0).repeat(12, axis=1))


PICTURES = {
    "waves": _waves(400, 300),
    "blocks": _blocks(480, 720),
    "small": _waves(90, 70),
    "plain": Image.new("RGB", (64, 48), (200, 30, 60)),
    "photo": photo(SAMPLES[3]),
}


def _hex(bits: NDArray[np.uint8]) -> str:
    return bits.tobytes().hex()


def described(features: Features) -> dict[str, Any]:
    """What is stored of an image's features: sizes, samples of its pixels, and its largest keypoints."""
    count, shown = features.count, min(KEYPOINTS, features.count)
    rows = [*range(shown), *range(count, count + shown)]
    own = features.keypoints
    return {
        "sizes": [features.width, features.height, *features.close.shape, features.count],
        "levels": [level.shape for level in features.pyramid],
        "fitted": features.pyramid[0][::9, ::9].tolist(),
        "smallest": features.pyramid[-1][::2, ::2].tolist(),
        "close": features.close[::15, ::15].tolist(),
        "colours": features.colours[::3, ::3].tolist(),
        "views": [round(float(value), 4) for value in features.views[:, ::37].ravel()],
        "at": [[round(float(p.real), 2), round(float(p.imag), 2)] for p in own.at[rows]],
        "frame": [[round(float(p.real), 2), round(float(p.imag), 2)] for p in own.frame[rows]],
        "coarse": _hex(features.codes.coarse[rows]),
        "fine": _hex(features.codes.fine[rows]),
        "drawn": features.drawn,
    }


def differences(golden: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs by more than another build of OpenCV or another processor explains."""
    wrong = [name for name in ("levels", "drawn") if json.dumps(golden[name]) != json.dumps(found[name])]
    *shape, count = golden["sizes"]
    *shape_found, count_found = found["sizes"]
    if shape != shape_found or abs(count - count_found) > 0.02 * count:
        wrong.append("sizes")
    for name, tolerance in {"fitted": 1, "smallest": 1, "close": 1, "colours": 1, "views": 0.002}.items():
        if wrong or np.abs(np.subtract(golden[name], found[name])).max() > tolerance:
            wrong.append(name)
    if wrong or not count:
        return wrong
    # equal sizes may come in another order: each stored keypoint is looked for
    at, at_found = (np.array(one["at"]) @ [1, 1j] for one in (golden, found))
    frame, frame_found = (np.array(one["frame"]) @ [1, 1j] for one in (golden, found))
    half = len(at) // 2
    away = np.abs(at[:half, np.newaxis] - at_found[np.newaxis, : len(at_found) // 2])
    away += np.abs(frame[:half, np.newaxis] - frame_found[np.newaxis, : len(at_found) // 2])
    nearest, near = away.argmin(axis=1), away.min(axis=1) < 0.2
    if near.mean() < 0.95:
        wrong.append("keypoints")
    for name, width in {"coarse": mbr_sift.COARSE_BYTES, "fine": mbr_sift.FINE_BYTES}.items():
        codes, codes_found = (
            np.frombuffer(bytes.fromhex(one[name]), np.uint8).reshape(-1, width) for one in (golden, found)
        )
        for offset, offset_found in ((0, 0), (half, len(codes_found) // 2)):
            ours, theirs = codes[offset : offset + half][near], codes_found[nearest[near] + offset_found]
            if np.bitwise_count(ours ^ theirs).mean() > 0.005 * 8:
                wrong.append(name)
    return wrong


@pytest.mark.parametrize("name", PICTURES)
def test_features_are_those_of_their_version(name: str) -> None:
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert golden["version"] == FEATURES_VERSION, "the golden file is of another version: write it again"
    found = described(extract(PICTURES[name], FeatureConfig()))
    assert not differences(golden["pictures"][name], found), MESSAGE


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("imagetools.features.mbr_sift.FINE_FACTOR", np.float32(2.1)),
        ("imagetools.features.extract._EDGE_THRESHOLD", 10),
        ("imagetools.features.extract._CLOSE_SCALE", 1.5),
        ("imagetools.features.mbr_sift._PATH", np.roll(mbr_sift._PATH, 1)),
        ("imagetools.features.extract.THUMB_SIDE", 15),
    ],
)
def test_a_change_is_noticed(where: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = json.loads(GOLDEN.read_text("utf-8"))["pictures"]["photo"]
    assert not differences(golden, described(extract(PICTURES["photo"], FeatureConfig())))
    monkeypatch.setattr(where, value)
    try:
        found = described(extract(PICTURES["photo"], FeatureConfig()))
    except (IndexError, ValueError):
        return
    assert differences(golden, found)


if __name__ == "__main__":
    made = {name: described(extract(picture, FeatureConfig())) for name, picture in PICTURES.items()}
    GOLDEN.write_text(json.dumps({"version": FEATURES_VERSION, "pictures": made}) + "\n", "utf-8")
