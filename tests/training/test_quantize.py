"""int8 is another model file: what the command writes, what it costs, and what it refuses."""

import importlib.util
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from cli.main import main
from cli.quantize import LEAST
from imagetools.errors import ModelError
from imagetools.fingerprint.config import DEFAULT_MODEL, EncoderConfig
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.networks import load_network
from tests.support.streaming import scene
from training.quantizing import QUANTIZED_FROM, quantize

SIZE = 64
PHOTOS = 40
OVERFLOW = 2**15


def write_scenes(folder: Path, count: int) -> Path:
    folder.mkdir()
    for seed in range(count):
        scene(seed, (96, 72)).save(folder / f"{seed:03}.jpg", quality=85)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = write_scenes(tmp_path_factory.mktemp("photos") / "scenes", PHOTOS)
    (folder / "torn.jpg").write_bytes((folder / "000.jpg").read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory) -> tuple[Path, str]:
    """The default model in int8, and what the command said."""
    out = tmp_path_factory.mktemp("models") / "int8.onnx"
    run = CliRunner().invoke(main, ["quantize", str(photos), "--out", str(out), "--size", str(SIZE)])
    assert run.exit_code == 0, run.output
    return out, " ".join(run.output.split())


def encoders(out: Path, **more: Any) -> tuple[Encoder, Encoder]:
    return (
        Encoder.load(EncoderConfig(input_size=SIZE, engine="openvino", bfloat16=False)),
        Encoder.load(EncoderConfig(out.name, out.parent, input_size=SIZE, **more)),
    )


def test_the_model_loads_by_its_name_and_finds_what_the_one_before_finds(made):
    before, after = encoders(made[0])
    assert "int8" in after.engine.name
    assert "int8" not in before.engine.name
    assert after.model.startswith("int8.onnx:")
    assert after.dimension == before.dimension
    # scenes that the ranges were not taken from
    images = [scene(seed) for seed in range(PHOTOS, PHOTOS + 24)]
    ours, theirs = after.encode(images), before.encode(images)
    near = ours @ theirs.T
    np.testing.assert_array_equal(near.argmax(axis=1), np.arange(len(images)))
    assert near.diagonal().mean() > 0.98
    # so near, and yet two models
    assert near.diagonal().min() < 0.9999


def test_a_kept_conversion_computes_in_int8_too(made, tmp_path):
    images = [scene(seed) for seed in range(5)]
    first, second = (encoders(made[0], kept=tmp_path)[1] for _ in range(2))
    assert "int8" in second.engine.name
    np.testing.assert_allclose(first.encode(images), second.encode(images), atol=1e-6)


def test_the_command_says_what_it_gains_and_costs_here(made):
    out, said = made
    assert f"by {PHOTOS - PHOTOS // 10} photos" in said
    assert "torn.jpg" in said
    assert "times as many images a second here" in said
    assert "imagetools reencode" in said
    assert f"measuring: {PHOTOS // 10} photos × 17 edits" in said
    assert "R@10 changes by" in said
    origin = {entry.key: entry.value for entry in onnx.load(out).metadata_props}[QUANTIZED_FROM]
    assert origin.startswith(f"{DEFAULT_MODEL}:")


def test_no_two_products_overflow_16_bits_where_a_processor_adds_them_there(made):
    model = onnx.load(made[0])
    weights = [
        onnx.numpy_helper.to_array(one) for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8
    ]
    kernels = [weight.astype(np.int64) for weight in weights if weight.ndim == 4]
    assert len(kernels) == 20
    assert max(2 * 255 * np.abs(kernel).max() for kernel in kernels) < OVERFLOW


def default_network() -> torch.nn.Module:
    return load_network(DEFAULT_MODEL, (files("imagetools.models") / DEFAULT_MODEL).read_bytes())


def test_the_same_photos_give_the_same_file_which_tells_no_folder():
    pixels = np.stack([np.asarray(scene(seed, (SIZE, SIZE))) for seed in range(4)])
    one, two = (quantize(default_network(), pixels, origin="a.th:0") for _ in range(2))
    assert one == two
    assert b"site-packages" not in one
    assert str(Path(__file__).resolve().parents[2]).encode() not in one


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_torchscript_is_refused_by_name():
    scripted = torch.jit.script(torch.nn.Flatten())
    with pytest.raises(ModelError, match=r"a\.pt:0: only ResNet state dicts"):
        quantize(scripted, np.zeros((1, SIZE, SIZE, 3), np.uint8), origin="a.pt:0")


def refused(*arguments: object) -> str:
    run = CliRunner().invoke(main, ["quantize", *map(str, arguments)])
    assert run.exit_code == 2
    assert run.exception is None or isinstance(run.exception, SystemExit)
    return run.output


def test_what_is_in_the_way_is_said_before_anything_is_written(photos, made, tmp_path):
    out, empty = tmp_path / "new.onnx", tmp_path / "empty"
    empty.mkdir()
    assert "no image in it" in refused(empty, "--out", out)
    few = write_scenes(tmp_path / "few", LEAST - 1)
    assert f"at least {LEAST} are needed" in refused(few, "--out", out, "--no-measure")
    assert "let its name end in .onnx" in refused(photos, "--out", tmp_path / "new.th")
    assert "already there" in refused(photos, "--out", made[0])
    assert "no such folder" in refused(photos, "--out", tmp_path / "away" / "new.onnx")
    assert "no such file" in refused(photos, "--out", out, "--from", tmp_path / "none.th")
    assert "used as it is" in refused(photos, "--out", out, "--from", made[0])
    (tmp_path / "text.th").write_text("no weights")
    assert "text.th" in refused(photos, "--out", out, "--from", tmp_path / "text.th")
    assert not out.exists()


def test_without_its_libraries_it_names_the_extra_that_brings_them(photos, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "onnxruntime" else find(name))
    said = refused(photos, "--out", tmp_path / "new.onnx")
    assert "onnxruntime" in said
    assert "pip install -e '.[int8]'" in said
