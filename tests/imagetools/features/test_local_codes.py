"""The codes that travel with a fingerprint: what they hold, and that they come back."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from imagetools.features import mbr_sift
from imagetools.features.config import FeatureConfig
from imagetools.features.extract import Features, extract
from imagetools.features.local_codes import local_codes
from imagetools.local_codes import MAX_LOCAL_CODES, ROW_BYTES, LocalCodes, pack_codes, unpack_codes
from tests.support.pictures import photos
from tests.support.streaming import scene

CONFIG = FeatureConfig()


def features_of(image: Image.Image) -> Features:
    return extract(image, CONFIG)


def equal(one: LocalCodes, other: LocalCodes) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in LocalCodes.__slots__)


@pytest.mark.parametrize("image", [*photos(3), scene(0, (60, 50))], ids=range(4))
def test_codes_come_back_as_they_were(image):
    codes = local_codes(features_of(image))
    packed = pack_codes(codes)
    assert 0 < len(codes) <= MAX_LOCAL_CODES
    assert len(packed) == ROW_BYTES * len(codes)
    assert equal(unpack_codes(packed), codes)


def test_a_row_holds_both_codes_then_size_and_direction():
    features = features_of(photos(1)[0])
    row = pack_codes(local_codes(features))[3 * ROW_BYTES : 4 * ROW_BYTES]
    frame = complex(features.keypoints.frame[3])
    assert row[:16] == features.codes.coarse[3].tobytes()
    assert row[16:32] == features.codes.coarse[features.count + 3].tobytes()
    assert 2 ** (row[32] / 16) == pytest.approx(abs(frame), rel=0.022)
    turns = np.angle(frame * np.exp(-2j * np.pi * row[33] / 256)) / (2 * np.pi)
    assert abs(turns) <= 0.5 / 256 + 1e-6


def test_the_largest_keypoints_come_first_and_the_rest_are_left_out():
    features = features_of(photos(1)[0])
    assert features.count > MAX_LOCAL_CODES
    codes = local_codes(features)
    assert len(codes) == MAX_LOCAL_CODES
    assert np.all(np.diff(codes.size.astype(int)) <= 0)
    np.testing.assert_array_equal(codes.own, features.codes.coarse[:MAX_LOCAL_CODES])


def test_a_mirror_images_codes_are_the_mirrored_ones():
    """Most of them: SIFT does not find all keypoints again in a mirror image."""
    image = photos(1)[0].resize((160, 120))
    ours, theirs = (local_codes(features_of(one)) for one in (image, ImageOps.mirror(image)))
    distances = mbr_sift.coarse_distances(np.ascontiguousarray(ours.mirrored), np.ascontiguousarray(theirs.own))
    nearest, found = distances.argmin(axis=1), distances.min(axis=1) <= 8
    assert found.mean() > 0.7
    turned = (128 - ours.direction.astype(int) - theirs.direction[nearest].astype(int) + 128) % 256 - 128
    assert np.median(np.abs(turned[found])) <= 3
    sizes = ours.size.astype(int) - theirs.size[nearest].astype(int)
    assert np.median(np.abs(sizes[found])) <= 1


def test_a_plain_image_has_none():
    codes = local_codes(features_of(Image.new("RGB", (80, 60), "red")))
    assert pack_codes(codes) == b""
    assert len(unpack_codes(b"")) == 0


@pytest.mark.parametrize("length", [1, ROW_BYTES - 1, ROW_BYTES + 1, ROW_BYTES * (MAX_LOCAL_CODES + 1)])
def test_bytes_of_another_length_are_refused(length):
    with pytest.raises(ValueError, match=f"{length} bytes of codes"):
        unpack_codes(bytes(length))


def test_unpacking_loads_no_opencv():
    statement = "import sys, imagetools.local_codes; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", statement], check=True)
