"""Fingerprints: finite and of unit length whatever the picture, the same however they are computed, from safe files."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet

from imagetools.errors import ModelError
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import BATCH_SIZE, Encoder
from imagetools.fingerprint.networks import Projection
from tests.support.streaming import scene

SIZE = 64
"""Pixels: a small input keeps the deep networks quick."""


@pytest.fixture(scope="module", params=["torch", "openvino"])
def encoder(request) -> Encoder:
    return Encoder.load(EncoderConfig(bfloat16=False, engine=request.param))


def odd_images() -> dict[str, Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (97, 201, 3), dtype=np.uint8)
    return {
        "black": Image.new("RGB", (300, 200)),
        "white": Image.new("RGB", (300, 200), (255, 255, 255)),
        "red": Image.new("RGB", (300, 200), (255, 0, 0)),
        "1 x 1": Image.new("RGB", (1, 1), (7, 8, 9)),
        "1 x 5000": Image.new("RGB", (1, 5000), (7, 8, 9)),
        "noise": Image.fromarray(noise),
        "scene": scene(3),
    }


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) * b.astype(np.float64)).sum(axis=1)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_every_picture_has_a_finite_fingerprint_of_unit_length(engine, bfloat16):
    images = odd_images()
    rows = Encoder.load(EncoderConfig(bfloat16=bfloat16, engine=engine)).encode(list(images.values()))
    assert rows.shape == (len(images), 512)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1.0, atol=1e-6)


def test_no_picture_has_no_fingerprint(encoder):
    assert encoder.encode([]).shape == (0, 512)


def test_a_picture_has_one_fingerprint_alone_and_in_any_company(encoder):
    images = [*odd_images().values(), *(scene(seed) for seed in range(BATCH_SIZE))]
    assert len(images) > BATCH_SIZE
    together = encoder.encode(images)
    alone = np.concatenate([encoder.encode([image]) for image in images])
    assert (1 - cosines(together, alone)).max() < 1e-4
    backwards = encoder.encode(images[::-1])[::-1]
    assert (1 - cosines(together, backwards)).max() < 1e-4


def test_the_same_picture_twice_gives_the_same_numbers(encoder):
    np.testing.assert_array_equal(encoder.encode([scene(1)]), encoder.encode([scene(1)]))


def test_bfloat16_agrees_with_float32(encoder):
    images = [*odd_images().values(), *(scene(seed) for seed in range(9))]
    half = Encoder.load(EncoderConfig(bfloat16=True)).encode(images)
    assert cosines(encoder.encode(images), half).min() >= 0.999


def test_a_copy_is_nearer_than_any_other_picture(encoder):
    images = [scene(seed) for seed in range(12)]
    smaller = [image.resize((120, 90)) for image in images]
    near = encoder.encode(images) @ encoder.encode(smaller).T
    assert (near.argmax(axis=1) == np.arange(12)).all()


def test_preparing_beforehand_changes_nothing(encoder):
    image = scene(4)
    pixels = encoder.prepare(image)
    assert pixels.shape == (112, 112, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(encoder.encode_prepared([pixels]), encoder.encode([image]))


def test_its_name_says_file_bytes_and_input_size(encoder):
    assert re.fullmatch(r"resnet18\.th:[0-9a-f]{12}:112", encoder.model)
    assert Encoder.load(EncoderConfig(input_size=SIZE)).model == encoder.model.replace(":112", f":{SIZE}")


def saved(folder: Path, name: str, state: object) -> EncoderConfig:
    torch.save(state, folder / name)
    return EncoderConfig(name, folder, input_size=SIZE, bfloat16=False, engine="torch")


@pytest.mark.parametrize(
    ("make", "dimension"),
    [
        (resnet.resnet18, 512), (resnet.resnet34, 512), (resnet.resnet50, 2048), (resnet.resnet101, 2048),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)  # fmt: skip
def test_state_dicts_of_torchvision_load_and_compute_as_torchvision_does(tmp_path, make, dimension):
    torch.manual_seed(0)
    network = make(weights=None)
    encoder = Encoder.load(saved(tmp_path, "model.th", network.state_dict()))
    assert encoder.dimension == dimension
    image = scene(2)
    (row,) = encoder.encode([image])
    network.fc = torch.nn.Identity()
    pixels = torch.from_numpy(encoder.prepare(image).copy()).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = network.eval()((pixels - mean) / deviation)[0].numpy()
    expected = expected / np.linalg.norm(expected)
    assert float(row @ expected) > 1 - 1e-5


def test_checkpoints_and_data_parallel_names_load_too(tmp_path):
    torch.manual_seed(0)
    state = resnet.resnet18(weights=None).state_dict()
    plain = Encoder.load(saved(tmp_path, "plain.th", state)).encode([scene(1)])
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    other = Encoder.load(saved(tmp_path, "wrapped.th", wrapped)).encode([scene(1)])
    np.testing.assert_array_equal(plain, other)


def test_float16_and_float32_files_agree(tmp_path):
    torch.manual_seed(0)
    state = resnet.resnet18(weights=None).state_dict()
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    images = [scene(seed) for seed in range(4)]
    full = Encoder.load(saved(tmp_path, "full.th", state)).encode(images)
    assert cosines(full, Encoder.load(saved(tmp_path, "half.th", half)).encode(images)).min() > 0.999
    assert (tmp_path / "half.th").stat().st_size < 0.6 * (tmp_path / "full.th").stat().st_size


def refused(config: EncoderConfig) -> str:
    with pytest.raises(ModelError) as caught:
        Encoder.load(config)
    assert config.model in str(caught.value)
    return str(caught.value)


class Intruder:
    """Leaves a mark wherever it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_code_in_a_model_file_is_refused_and_never_run(tmp_path, writer):
    mark = tmp_path / "it ran"
    file = tmp_path / "model.th"
    if writer == "pickle":
        file.write_bytes(pickle.dumps({"conv1.weight": Intruder(mark)}))
    else:
        torch.save({"conv1.weight": Intruder(mark)}, file)
    refused(EncoderConfig("model.th", tmp_path))
    assert not mark.exists()
    # the trap works: an unguarded reader falls into it
    if writer == "pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert mark.exists()


def test_a_whole_pickled_network_is_refused(tmp_path):
    refused(saved(tmp_path, "model.th", resnet.resnet18(weights=None)))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, number):
    state = resnet.resnet18(weights=None).state_dict()
    state["layer3.0.conv1.weight"][0, 0, 0, 0] = number
    assert "layer3.0.conv1.weight" in refused(saved(tmp_path, "model.th", state))


@pytest.mark.parametrize(
    "state",
    [
        {}, [torch.zeros(3)], {"weight": torch.zeros(3)}, torch.zeros(3), {"a": 1},
        {"layer1.0.conv1.weight": torch.zeros(3)},
    ],
    ids=["empty", "list", "other network", "tensor", "number", "one layer"],
)  # fmt: skip
def test_files_of_something_else_are_refused(tmp_path, state):
    refused(saved(tmp_path, "model.th", state))


def test_a_network_that_lacks_a_layer_or_has_another_shape_is_refused(tmp_path):
    state = resnet.resnet18(weights=None).state_dict()
    less = {name: value for name, value in state.items() if name != "layer4.1.bn2.running_var"}
    assert "layer4.1.bn2.running_var" in refused(saved(tmp_path, "less.th", less))
    assert "conv1.weight" in refused(saved(tmp_path, "other.th", state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}))


@pytest.mark.parametrize("data", [b"", b"text", b"PK\3\4 a torn archive"])
def test_bytes_that_are_no_weights_are_refused(tmp_path, data):
    (tmp_path / "model.th").write_bytes(data)
    refused(EncoderConfig("model.th", tmp_path))


def test_a_missing_model_is_named_with_the_places_that_were_looked_at(tmp_path):
    reason = refused(EncoderConfig("resnet99.th", tmp_path))
    assert str(tmp_path / "resnet99.th") in reason
    assert "models" in reason.split(" and ")[1]


def test_a_folder_without_the_model_falls_back_on_the_package(tmp_path, encoder):
    for folder in (tmp_path, tmp_path / "not there"):
        assert Encoder.load(EncoderConfig(folder=folder, bfloat16=False)).model == encoder.model


def test_a_model_in_the_folder_goes_before_that_of_the_package(tmp_path, encoder):
    torch.manual_seed(0)
    assert Encoder.load(saved(tmp_path, "resnet18.th", resnet.resnet18(weights=None).state_dict())).model != (
        encoder.model.replace(":112", f":{SIZE}")
    )


@pytest.mark.parametrize("name", ["../resnet18.th", "/etc/passwd", "folder/model.th", "", ".", ".."])
def test_a_path_in_models_name_is_refused(tmp_path, name):
    with pytest.raises(ModelError):
        Encoder.load(EncoderConfig(name, tmp_path))


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_projection_is_applied_to_unit_vectors_and_sets_the_dimension(tmp_path, engine):
    torch.manual_seed(0)
    state = resnet.resnet18(weights=None).state_dict()
    weight, bias = torch.randn(40, 512), torch.randn(40)
    images = [scene(seed) for seed in range(3)]
    before = Encoder.load(saved(tmp_path, "plain.th", state)).encode(images)
    projected = saved(tmp_path, "projected.th", state | {"projection.weight": weight, "projection.bias": bias})
    encoder = Encoder.load(replace(projected, engine=engine))
    assert encoder.dimension == 40
    expected = before @ weight.numpy().T + bias.numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(images), expected, atol=1e-4)


def test_a_projection_computes_in_float32_where_all_else_is_in_bfloat16():
    torch.manual_seed(0)
    projection, rows = Projection(6, 4), torch.randn(3, 6)
    with torch.no_grad():
        projection.weight.normal_()
        exact = projection(rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = projection(rows)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


@pytest.mark.parametrize(
    ("name", "value"),
    [("projection.weight", torch.zeros(40, 100)), ("projection.weight", torch.zeros(40)),
     ("projection.bias", torch.zeros(3)), ("projection.bias", torch.full((40,), torch.nan))],
    ids=["width", "shape", "bias", "nan"],
)  # fmt: skip
def test_a_projection_that_does_not_fit_is_refused(tmp_path, name, value):
    state = resnet.resnet18(weights=None).state_dict()
    fitting = {"projection.weight": torch.zeros(40, 512), "projection.bias": torch.zeros(40)}
    refused(saved(tmp_path, "broken.th", state | fitting | {name: value}))
