"""Torch and OpenVINO give the same fingerprints, from every kind of file, and the second start needs no torch."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision.models import resnet

from imagetools.errors import ModelError
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.engines import ModelFile, open_engine
from imagetools.fingerprint.engines.openvino import MAX_PIECE, cut_pieces
from tests.support.streaming import scene

SIZE = 64

# torch warns that TorchScript is on its way out; there are published models in it all the same
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")


class Small(nn.Module):
    """A network that is no ResNet: a convolution, a mean, eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.convolution(images).relu().mean((2, 3))


def scenes(count: int) -> list[Image.Image]:
    return [scene(seed) for seed in range(count)]


def load(folder: Path, name: str, engine: str, **more: Any) -> Encoder:
    return Encoder.load(EncoderConfig(name, folder, input_size=SIZE, bfloat16=False, engine=engine, **more))


def assert_same(a: np.ndarray, b: np.ndarray, least: float = 1 - 1e-5) -> None:
    assert a.shape == b.shape
    assert (a.astype(np.float64) * b.astype(np.float64)).sum(axis=1).min() >= least


def test_both_engines_give_the_same_fingerprints_as_the_shipped_model():
    images = [*scenes(37), Image.new("RGB", (9, 9)), Image.new("RGB", (50, 10), "white")]
    torch_rows = Encoder.load(EncoderConfig(bfloat16=False, engine="torch")).encode(images)
    for low in (False, None):
        rows = Encoder.load(EncoderConfig(bfloat16=low, engine="openvino")).encode(images)
        assert_same(torch_rows, rows, 0.999)


def test_a_network_of_another_depth_runs_on_both(tmp_path):
    torch.manual_seed(0)
    torch.save(resnet.resnet34(weights=None).state_dict(), tmp_path / "model.th")
    rows = [load(tmp_path, "model.th", engine).encode(scenes(5)) for engine in ("torch", "openvino")]
    assert_same(rows[0], rows[1])


def write_small(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    torch.jit.save(torch.jit.script(Small().eval()), folder / "model.pt")


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    """A folder with a small network, quickly converted."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_small(folder)
    return folder


def test_torchscript_runs_on_both_as_it_runs_alone(scripted):
    rows = [load(scripted, "model.pt", engine).encode(scenes(5)) for engine in ("torch", "openvino")]
    assert_same(rows[0], rows[1])
    encoder = load(scripted, "model.pt", "torch")
    assert encoder.dimension == 8
    torch.manual_seed(0)
    pixels = torch.from_numpy(np.stack([encoder.prepare(image) for image in scenes(5)]))
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        alone = Small().eval()((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / deviation).numpy()
    assert_same(rows[0], alone / np.linalg.norm(alone, axis=1, keepdims=True))


def test_onnx_runs_as_torch_does(tmp_path):
    torch.manual_seed(0)
    small = Small().eval()
    count = torch.export.Dim("count", min=1, max=64)
    program = torch.onnx.export(
        small, (torch.zeros(2, 3, SIZE, SIZE),), dynamo=True, dynamic_shapes=({0: count},), verbose=False
    )
    assert program is not None
    program.save(str(tmp_path / "model.onnx"))
    encoder = load(tmp_path, "model.onnx", "auto")
    rows = encoder.encode(scenes(5))
    pixels = torch.from_numpy(np.stack([encoder.prepare(image) for image in scenes(5)]))
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        alone = small((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / deviation).numpy()
    assert_same(rows, alone / np.linalg.norm(alone, axis=1, keepdims=True))


def test_bytes_that_are_no_onnx_network_are_refused_by_name(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load(tmp_path, "model.onnx", "auto")


def test_onnx_without_openvino_says_how_to_get_it(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="pip install openvino"):
        load(tmp_path, "model.onnx", "torch")


def test_an_engine_that_is_not_installed_is_named_and_auto_does_without(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match="pip install openvino"):
        Encoder.load(EncoderConfig(engine="openvino"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "openvino" else find(name))
    assert Encoder.load(EncoderConfig(engine="auto")).engine.name.startswith("torch")


def test_a_converted_model_is_kept_by_its_content_and_serves_the_next_start(scripted, tmp_path):
    kept = tmp_path / "kept"
    first = load(scripted, "model.pt", "openvino", kept=kept).encode(scenes(3))
    (place,) = kept.iterdir()
    written = (place / "model.bin").stat().st_mtime_ns
    assert_same(load(scripted, "model.pt", "openvino", kept=kept).encode(scenes(3)), first)
    assert (place / "model.bin").stat().st_mtime_ns == written
    write_small(scripted, seed=1)
    other = load(scripted, "model.pt", "openvino", kept=kept).encode(scenes(3))
    assert (other * first).sum(axis=1).max() < 0.999
    assert len(list(kept.iterdir())) == 2


def test_a_kept_model_that_is_damaged_is_converted_again(scripted, tmp_path, caplog):
    kept = tmp_path / "kept"
    first = load(scripted, "model.pt", "openvino", kept=kept).encode(scenes(2))
    (place,) = kept.iterdir()
    (place / "model.xml").write_text("torn")
    assert_same(load(scripted, "model.pt", "openvino", kept=kept).encode(scenes(2)), first)
    assert "converting" in caplog.text


def test_a_folder_that_cannot_be_written_costs_only_time(scripted, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    encoder = load(scripted, "model.pt", "openvino", kept=tmp_path / "file" / "folder")
    assert encoder.encode(scenes(1)).shape == (1, 8)
    assert "cannot be kept" in caplog.text


SECOND_START = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from PIL import Image
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import Encoder
models, kept = map(Path, sys.argv[1:])
encoder = Encoder.load(EncoderConfig("model.pt", models, engine="openvino", kept=kept))
assert encoder.encode([Image.new("RGB", (9, 9), "red")]).shape == (1, 8)
print(*sorted({name.split(".")[0] for name in sys.modules}))
print("telemetry:", "off" if sys.modules["openvino_telemetry"] is None else "on")
"""


def test_the_second_start_loads_no_torch(scripted, tmp_path):
    for torch_loaded in (True, False):
        command = [sys.executable, "-c", SECOND_START, str(scripted), str(tmp_path / "kept")]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        loaded = run.stdout.split()
        assert "openvino" in loaded
        assert ("torch" in loaded) == torch_loaded
        assert "telemetry: off" in run.stdout


@given(st.integers(0, 300), st.integers(1, 16))
def test_pieces_cover_a_batch_in_order_by_powers_of_two(count, streams):
    pieces = list(cut_pieces(count, streams))
    assert [i for start, end in pieces for i in range(start, end)] == list(range(count))
    assert {end - start for start, end in pieces} <= {1, 2, 4, 8, 16}
    assert all(end - start <= MAX_PIECE for start, end in pieces)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_no_images_give_no_vectors(scripted, engine):
    data = (scripted / "model.pt").read_bytes()
    ready = open_engine(ModelFile("model.pt", data, SIZE, bfloat16=False, threads=1), engine)
    assert ready.run(np.empty((0, SIZE, SIZE, 3), np.uint8)).shape == (0, 8)
    assert ready.dimension == 8
