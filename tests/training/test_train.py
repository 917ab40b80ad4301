"""Training: losses against plain loops, a run that goes on as if never interrupted, and a file every stage can load."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from cli.main import main
from cli.model_comparison import compared
from imagetools.edits import EDITS
from imagetools.errors import ModelError
from imagetools.fingerprint.config import DEFAULT_INPUT_SIZE, DEFAULT_MODEL, EncoderConfig
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.networks import load_network
from imagetools.fingerprint.normalization import IMAGENET_DEVIATION, IMAGENET_MEAN
from imagetools.image_root import ImageRoot
from tests.support.streaming import scene
from training.augment.config import AugmentConfig
from training.augment.views import draw_views, resize_photos
from training.checkpoint import CHECKPOINT, LATEST, LOG, RunMismatch
from training.config import TrainConfig
from training.loop import Trainer
from training.losses import contrast, distance_to_teacher, koleo, nt_xent
from training.photos import MIN_PHOTOS, TooFewPhotos, TrainingPhotos, read_photos, stored_photos
from training.projection import equalized
from training.retrieval import Recall, measure, ranks_of

QUICK = TrainConfig(steps=6, size=32, batch=8, memory=16, rate=1e-3)
DEADLINE_S = 60.0


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks so small gain nothing by threads, which wait for each other when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def units(seed: int, rows: int, columns: int = 5) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, columns), dim=1)


def test_contrast_is_what_a_plain_loop_gives():
    queries, keys = units(0, 3), units(1, 6)
    shows = torch.zeros(3, 6, dtype=torch.bool)
    shows[0, 0] = shows[1, 1] = shows[1, 4] = shows[2, 2] = True
    ignored = torch.zeros(3, 6, dtype=torch.bool)
    ignored[0, 3] = ignored[2, 5] = ignored[1, 4] = True
    total = 0.0
    for i in range(3):
        counted = [j for j in range(6) if shows[i, j] or not ignored[i, j]]
        scores = {j: math.exp(float(queries[i] @ keys[j]) / 0.2) for j in counted}
        right = [j for j in counted if shows[i, j]]
        total -= sum(math.log(scores[j] / sum(scores.values())) for j in right) / len(right) / 3
    assert float(contrast(queries, keys, shows, ignored, 0.2)) == pytest.approx(total, rel=1e-5)


def test_nt_xent_is_equation_1_of_simclr():
    first, second = units(0, 4), units(1, 4)
    rows = torch.cat((first, second))
    total = 0.0
    for i in range(8):
        others = [math.exp(float(rows[i] @ rows[j]) / 0.1) for j in range(8) if j != i]
        total -= math.log(math.exp(float(rows[i] @ rows[(i + 4) % 8]) / 0.1) / sum(others)) / 8
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    found = nt_xent(first, second, torch.eye(4, dtype=torch.bool), nothing, 0.1)
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_nt_xent_holds_what_a_view_has_to_do_with_against_nobody():
    first, second = units(0, 3), units(1, 3)
    shows, ignored = torch.eye(3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool)
    ignored[0, 2] = True
    rows = torch.cat((first, second))
    # rows 0 and 2 of the first are related through photo 2, and so are row 0 and photo 2
    out = {(0, 2), (2, 0), (0, 5), (5, 0)}
    total = 0.0
    for i in range(6):
        others = [math.exp(float(rows[i] @ rows[j]) / 0.1) for j in range(6) if j != i and (i, j) not in out]
        total -= math.log(math.exp(float(rows[i] @ rows[(i + 3) % 6]) / 0.1) / sum(others)) / 6
    assert float(nt_xent(first, second, shows, ignored, 0.1)) == pytest.approx(total, rel=1e-5)


def test_koleo_is_what_a_plain_loop_gives_and_pushes_neighbors_apart():
    rows = units(2, 7)
    nearest = [min(float((rows[i] - rows[j]).norm()) for j in range(7) if j != i) for i in range(7)]
    loss = koleo(rows.requires_grad_())
    assert float(loss.detach()) == pytest.approx(-sum(math.log(d) for d in nearest) / 7, rel=1e-4)
    (slope,) = torch.autograd.grad(loss, rows)
    assert float(koleo((rows - 0.01 * slope).detach())) < float(loss.detach())
    assert math.isfinite(float(koleo(torch.ones(3, 4) / 2)))


def test_the_distance_to_a_teacher_is_of_cosines():
    ours, theirs = torch.randn(4, 6), torch.randn(4, 6)
    cosines = [float(a @ b) / float(a.norm() * b.norm()) for a, b in zip(ours, theirs, strict=True)]
    assert float(distance_to_teacher(ours, theirs)) == pytest.approx(1 - sum(cosines) / 4, rel=1e-5)


def test_ranks_are_counted_and_ties_share_their_middle():
    gallery = np.eye(4, dtype=np.float32)
    copies = np.array([[0.9, 0.1, 0, 0], [0.5, 0.2, 0.9, 0], [0.5, 0.5, 0.5, 0]], np.float32)
    np.testing.assert_array_equal(ranks_of(copies, gallery, np.array([0, 1, 1])), [1, 3, 2])
    recall = Recall({"a": np.array([1.0, 11.0]), "b": np.array([10.0, 2.5])})
    assert (recall.at(1), recall.at(10), recall.at(10, "a"), recall.at(100)) == (0.25, 0.75, 0.5, 1.0)


class Colours:
    """Describes an image by a coarse picture of its colours: exact copies come first."""

    def prepare(self, image):
        return np.asarray(image.resize((8, 8)), np.float32).ravel() - 128

    def encode_prepared(self, pixels):
        rows = np.stack(pixels)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_scenes(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        scene(seed, (96, 72)).save(folder / f"{seed:03}.jpg", quality=85)


@pytest.fixture(scope="module")
def hundred(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "hundred"
    write_scenes(folder, MIN_PHOTOS)
    return folder


def test_retrieval_finds_copies_that_keep_their_colours_and_not_those_that_turn(hundred):
    gallery = sorted(path.name for path in hundred.iterdir())
    found = measure({"colours": Colours()}, ImageRoot(hundred), gallery[:5], gallery)["colours"]
    again = measure({"colours": Colours()}, ImageRoot(hundred), gallery[:5], gallery)["colours"]
    assert len(found.ranks) == 17
    assert found.at(1, "jpeg15") == found.at(1, "square") == 1.0
    assert found.at(1, "flip_vertical") < 1.0
    for edit, ranks in found.ranks.items():
        np.testing.assert_array_equal(ranks, again.ranks[edit])


@pytest.fixture(scope="module")
def photos() -> TrainingPhotos:
    pixels = np.stack([np.asarray(scene(seed, (48, 48))) for seed in range(24)])
    return TrainingPhotos(tuple(f"{seed}.jpg" for seed in range(24)), pixels, np.full(24, 1.5, np.float32), ())


class TinyNetwork(torch.nn.Module):
    """A network with the parts of a ResNet, and a thousandth of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 12, 3, stride=2, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(12)
        for layer, (width, out) in enumerate(((12, 16), (16, 24), (24, 32), (32, 32)), start=1):
            conv = torch.nn.Conv2d(width, out, 3, padding=1, stride=1 + layer % 2, bias=False)
            setattr(self, f"layer{layer}", torch.nn.Sequential(conv, torch.nn.BatchNorm2d(out)))
        self.fc = torch.nn.Identity()

    def forward(self, pixels):
        rows = self.bn1(self.conv1(pixels)).relu()
        for layer in range(1, 5):
            rows = self.get_submodule(f"layer{layer}")(rows).relu()
        return self.fc(rows.mean((2, 3)))


def small(seed: int) -> TinyNetwork:
    torch.manual_seed(seed)
    return TinyNetwork().eval()


@pytest.fixture(scope="module")
def network() -> TinyNetwork:
    return small(0)


@pytest.fixture(scope="module")
def newborn() -> TinyNetwork:
    return small(1)


def default_network() -> torch.nn.Module:
    return load_network(DEFAULT_MODEL, (files("imagetools.models") / DEFAULT_MODEL).read_bytes())


def write_torchscript(path: Path, network: torch.nn.Module) -> None:
    with warnings.catch_warnings():
        # it asks for torch.export, and goes on writing what published models come as
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 32, 32)), path)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """As every network is given them."""
    mean, deviation = (torch.tensor(value).view(1, 3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (pixels - mean) / deviation


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / LOG).read_text().splitlines()]


@pytest.mark.parametrize("memory", [0, 16])
def test_a_run_that_goes_on_ends_as_one_that_was_never_interrupted(tmp_path, photos, network, memory):
    config = replace(QUICK, memory=memory)
    whole = Trainer(network, "small", photos, tmp_path / "whole", config)
    whole.run()

    def stop(step):
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(network, "small", photos, tmp_path / "parts", config).run(stop)
    # as a kill leaves it: later than the checkpoint, and torn
    with (tmp_path / "parts" / LOG).open("a") as log:
        log.write('{"step": 4, "steps": 6, "loss": 99.0, "rate": 0, "seconds": 1}\n{"step": 5, "lo')
    rest = Trainer(network, "small", photos, tmp_path / "parts", config)
    rest.resume()
    assert rest.step == 3
    rest.run()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, rest.network.state_dict()[name]), name
    assert (tmp_path / "whole" / LATEST).read_bytes() == (tmp_path / "parts" / LATEST).read_bytes()


def test_another_seed_gives_another_run(tmp_path, photos, network):
    for seed in (0, 1):
        Trainer(network, "small", photos, tmp_path / str(seed), replace(QUICK, steps=1, seed=seed)).run()
    assert losses(tmp_path / "0") != losses(tmp_path / "1")


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(tmp_path, photos, network, newborn):
    Trainer(network, "small", photos, tmp_path, replace(QUICK, steps=1)).run()
    fewer = replace(photos, paths=photos.paths[1:], pixels=photos.pixels[1:], aspects=photos.aspects[1:])
    for other, name in (
        (Trainer(network, "small", fewer, tmp_path, QUICK), "photos"),
        (Trainer(newborn, "newborn", photos, tmp_path, QUICK), "model"),
        (Trainer(network, "small", photos, tmp_path, replace(QUICK, rate=2e-3)), "rate"),
        (Trainer(network, "small", photos, tmp_path, replace(QUICK, augment=AugmentConfig(plain=0.5))), "augment"),
    ):
        with pytest.raises(RunMismatch, match=name):
            other.resume()
    longer = Trainer(network, "small", photos, tmp_path, replace(QUICK, steps=2, minutes=1))
    longer.resume()
    assert (longer.step, longer.steps) == (1, 2)
    (tmp_path / CHECKPOINT).write_bytes(b"torn")
    with pytest.raises(ModelError, match="checkpoint"):
        longer.resume()


def test_the_starting_model_stays_as_it_is_and_frozen_layers_too(tmp_path, photos, network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer = Trainer(network, "small", photos, tmp_path, replace(QUICK, steps=2))
    trainer.run()
    after = trainer.network.state_dict()
    assert {name for name in after if name not in before} == {"fc.weight", "fc.bias"}
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        held = name.startswith(("conv1", "bn1", "layer1", "layer2")) or "running" in name or "tracked" in name
        assert torch.equal(value, after[name]) == held, name


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("memory", [0, 24])
def test_training_brings_copies_nearer_to_their_originals(tmp_path, photos, newborn, memory, bfloat16):
    # of little data and few steps only light edits can be learned
    light = AugmentConfig(
        layouts=(1, 0, 0, 0, 0), plain=0.2, quarter=0, turned=0, flipped=0, patched=0, cropped=0.2, captioned=0
    )
    config = replace(QUICK, steps=80, batch=24, memory=memory, slow=0.9, rate=3e-3, frozen=0, projection=False)
    config = replace(config, augment=light)
    trainer = Trainer(newborn, "newborn", photos, tmp_path, config)
    trainer.runner.bfloat16 = bfloat16
    pixels = torch.from_numpy(photos.pixels).permute(0, 3, 1, 2)
    views = draw_views(pixels, torch.from_numpy(photos.aspects), 32, torch.Generator().manual_seed(99), config.augment)

    def loss_now() -> float:
        trainer.network.eval()
        with torch.inference_mode():
            rows = [trainer.network(normalised(p)) for p in (views.pixels, resize_photos(pixels, 32))]
        copies, originals = (torch.nn.functional.normalize(part, dim=1) for part in rows)
        return float(contrast(copies, originals, torch.eye(24, dtype=torch.bool), views.touches | views.shows, 0.1))

    before = loss_now()
    trainer.run()
    assert loss_now() < 0.4 * before


def test_minutes_are_turned_into_steps_that_are_kept(tmp_path, photos, network):
    trainer = Trainer(network, "small", photos, tmp_path, replace(QUICK, steps=None, minutes=0.05))
    trainer.run()
    assert trainer.steps is not None
    assert trainer.step == trainer.steps > 8
    again = Trainer(network, "small", photos, tmp_path, replace(QUICK, steps=None, minutes=0.05))
    again.resume()
    assert again.steps == trainer.steps


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_teacher_is_followed(tmp_path, photos, network, newborn):
    torch.manual_seed(0)
    write_torchscript(tmp_path / "teacher.pt", network)
    teacher = Encoder.load(EncoderConfig("teacher.pt", tmp_path, input_size=32, engine="torch"))
    trainer = Trainer(newborn, "newborn", photos, tmp_path, replace(QUICK, steps=3), teacher=teacher)
    head = trainer._head
    assert head is not None
    before = head.weight.clone()
    trainer.run()
    assert not torch.equal(before, head.weight)
    alone = Trainer(newborn, "newborn", photos, tmp_path / "alone", replace(QUICK, steps=1))
    alone.run()
    # the same views: what is added is the distance, which lies between 0 and 2
    assert 0 < losses(tmp_path)[0] - losses(tmp_path / "alone")[0] < 2


def test_the_written_file_is_half_precision_and_loads_as_a_fingerprint(tmp_path, photos):
    trainer = Trainer(default_network(), "default", photos, tmp_path, replace(QUICK, steps=1))
    trainer.run()
    trainer.export(tmp_path / "adapted.th")
    state = torch.load(tmp_path / "adapted.th", weights_only=True)
    assert len(state) == 122
    assert state["projection.weight"].shape == (512, 512)
    assert not any(name.startswith("fc.") for name in state)
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    adapted = Encoder.load(EncoderConfig("adapted.th", tmp_path))
    rows = adapted.encode([scene(seed) for seed in range(3)])
    assert rows.shape == (3, 512)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1.0, atol=1e-6)


def test_a_file_that_was_trained_is_trained_further_and_keeps_its_projection(tmp_path, photos):
    config = replace(QUICK, steps=1, batch=4)
    first = Trainer(default_network(), "default", photos, tmp_path, config)
    first.run()
    first.export(tmp_path / "first.th")
    adapted = load_network("first.th", (tmp_path / "first.th").read_bytes())
    second = Trainer(adapted, "first", photos, tmp_path / "second", replace(config, steps=0))
    second.run()
    for name, value in first._slow.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], value, atol=2e-3, rtol=2e-3)


def test_evening_out_changes_variances_as_it_says():
    torch.manual_seed(0)
    data = torch.randn(200, 6).numpy().astype(np.float64) * np.array([5, 3, 2, 1, 0.5, 0.1])
    covariance = data.T @ data / 200
    before = np.linalg.eigvalsh(covariance)
    for power in (0.0, 0.5, 1.0):
        axes = equalized(covariance, power, 0.0)
        np.testing.assert_allclose(axes.T @ covariance @ axes, np.diag(before ** (1 - power)), atol=1e-9)
    held = equalized(covariance, 1.0, 0.5)
    np.testing.assert_allclose(np.diag(held.T @ covariance @ held), before / (before + 0.5 * before.mean()), atol=1e-9)


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_a_new_projection_centres_photos_and_shrinks_what_edits_change(tmp_path, photos, network, bfloat16):
    trainer = Trainer(network, "small", photos, tmp_path, replace(QUICK, steps=0))
    trainer.runner.bfloat16 = bfloat16
    trainer.run()
    pixels = torch.from_numpy(photos.pixels).permute(0, 3, 1, 2)
    rng = torch.Generator().manual_seed(0)
    views = draw_views(pixels, torch.from_numpy(photos.aspects), DEFAULT_INPUT_SIZE, rng, AugmentConfig(plain=0)).pixels
    with torch.no_grad():
        before = [network(normalised(p)) for p in (resize_photos(pixels, DEFAULT_INPUT_SIZE), views)]
    before = [torch.nn.functional.normalize(rows, dim=1) for rows in before]
    with torch.no_grad():
        after = [trainer.network.get_submodule("fc")(rows) for rows in before]
    assert after[0].mean(dim=0).abs().max() < 1e-3
    assert float(after[0].norm(dim=1).mean()) == pytest.approx(1, abs=0.01)
    # every direction is changed by edits about as much as any other, along which photos are as wide
    rows, edits = after[0].double(), (after[1] - after[0]).double()
    axes = torch.linalg.eigh(rows.T @ rows)[1][:, -8:]
    widths = [(part @ axes).square().mean(dim=0) for part in (rows, edits)]
    ratio = widths[0] / widths[1]
    raw, raw_edits = before[0].double() - before[0].double().mean(0), (before[1] - before[0]).double()
    raw_axes = torch.linalg.eigh(raw.T @ raw)[1][:, -8:]
    raw_ratio = (raw @ raw_axes).square().mean(dim=0) / (raw_edits @ raw_axes).square().mean(dim=0)
    assert ratio.min() > raw_ratio.min()
    plainly = Trainer(network, "small", photos, tmp_path, replace(QUICK, projection=False))
    assert isinstance(plainly.network.fc, torch.nn.Identity)


def test_weights_that_are_not_finite_are_never_written(tmp_path, photos, network):
    trainer = Trainer(network, "small", photos, tmp_path, QUICK)
    with torch.no_grad():
        trainer._slow.get_parameter("layer4.0.weight")[0, 0, 0, 0] = 1e6
    with pytest.raises(ModelError, match="layer4"):
        trainer.export(tmp_path / "broken.th")
    assert not (tmp_path / "broken.th").exists()


def test_a_folder_is_read_once_and_a_tenth_is_kept_apart(tmp_path, hundred):
    (hundred / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    skipped: list[str] = []
    photos = read_photos(hundred, tmp_path, side=32, on_skipped=lambda exc: skipped.append(exc.name))
    (hundred / "broken.jpg").unlink()
    assert skipped in ([], ["broken.jpg"])
    assert len(photos) + len(photos.held_out) == MIN_PHOTOS
    assert not set(photos.paths) & set(photos.held_out)
    assert len(photos.held_out) in (9, 10)
    assert photos.pixels.shape == (len(photos), 32, 32, 3)
    assert photos.aspects == pytest.approx(96 / 72)
    one = np.asarray(ImageRoot(hundred).open(photos.paths[7]).resize((32, 32)), np.float32)
    assert np.abs(one - photos.pixels[7]).mean() < 12
    again = stored_photos(tmp_path)
    assert again.paths == photos.paths
    np.testing.assert_array_equal(again.pixels, photos.pixels)
    other = read_photos(hundred, tmp_path / "other", side=32, seed=1)
    assert other.held_out != photos.held_out


def test_folders_that_teach_nothing_are_refused(tmp_path, hundred):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    write_scenes(tmp_path / "few", 3)
    for name, reason in (("empty", "no image in it"), ("few", f"3 images.* at least {MIN_PHOTOS}")):
        with pytest.raises(TooFewPhotos, match=reason):
            read_photos(tmp_path / name, tmp_path / "store")
        answer = CliRunner().invoke(main, ["train", str(tmp_path / name), "--out", str(tmp_path / "model.th")])
        assert answer.exit_code == 2
        assert str(tmp_path / name) in answer.output
    for i in range(MIN_PHOTOS):
        (tmp_path / "few" / f"broken {i}.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(TooFewPhotos, match="3 images"):
        read_photos(tmp_path / "few", tmp_path / "store")
    with pytest.raises(TooFewPhotos, match="no image"):
        read_photos(hundred, tmp_path / "store", exclude=[""])


def test_the_command_is_interrupted_goes_on_and_writes_a_model(tmp_path, hundred):
    out, run = tmp_path / "adapted.th", tmp_path / "adapted.th.training"
    command = [sys.executable, "-m", "imagetools", "train", str(hundred), "--out", str(out)]
    command += ["--size", "32", "--batch", "8", "--no-measure"]
    started = subprocess.Popen([*command, "--steps", "100000"], stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + DEADLINE_S
    while not (run / LOG).exists() or len((run / LOG).read_text().splitlines()) < 2:
        assert time.monotonic() < deadline
        assert started.poll() is None, started.communicate()[1]
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    said = started.communicate(timeout=DEADLINE_S)[1]
    assert started.returncode == 130, said
    assert "--resume" in said
    assert not out.exists()

    def ask(*more: str) -> "tuple[int, str]":
        answer = CliRunner().invoke(main, [*command[3:], *more])
        return answer.exit_code, " ".join(answer.output.split())

    code, said = ask("--steps", "9")
    assert code == 2
    assert "--resume goes on" in said
    reached = len((run / LOG).read_text().splitlines())
    code, said = ask("--steps", str(reached + 1), "--resume")
    assert code == 0, said
    assert f"step {reached}" in said
    assert len((run / LOG).read_text().splitlines()) == reached + 1
    assert {path.name for path in run.iterdir()} == {LOG, "log.png", "held-out.txt"}
    assert (run / "log.png").read_bytes().startswith(b"\x89PNG")
    assert len((run / "held-out.txt").read_text().splitlines()) == MIN_PHOTOS // 10
    assert Encoder.load(EncoderConfig(out.name, tmp_path)).encode([scene(1)]).shape == (1, 512)
    code, said = ask()
    assert (code, "already there" in said) == (2, True)
    assert ask("--resume")[0] == 2


def test_the_comparison_shows_each_edit_and_all_of_them():
    before = Recall({edit: np.array([1.0, 200.0]) for edit in EDITS})
    after = Recall({edit: np.array([1.0, 9.0]) for edit in EDITS})
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(compared({"before": before, "after": after}))
    lines = [line.split("│") for line in console.export_text().splitlines() if line.startswith("│")]
    cells = {name.strip(): (first.split(), second.split()) for _, name, first, second, _ in lines}
    assert set(cells) == {"all", *EDITS}
    assert cells["all"] == cells["collage"] == (["50.0", "50.0", "50.0"], ["50.0", "100.0", "100.0"])
