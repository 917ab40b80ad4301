"""`imagetools train`: adapt the fingerprint to a folder of photos."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from torch import nn
from torchvision.models import ResNet

from cli.model_comparison import compare
from cli.output_checks import check_file
from imagetools.errors import ImageToolsError, PrerequisiteMissing
from imagetools.fingerprint.config import DEFAULT_MODEL, EncoderConfig
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.networks import load_network
from imagetools.folder import Tally
from training.checkpoint import CHECKPOINT, LATEST, LOG
from training.config import TrainConfig
from training.loop import Step, Trainer
from training.photos import NAMES, PIXELS, TrainingPhotos, read_photos, stored_photos
from training.plot import draw
from training.retrieval import Recall

PLAIN_EVERY = 50
"""Steps between lines of progress where no terminal shows bars."""

HELD_OUT, PLOT = "held-out.txt", "log.png"


class CannotTrain(ImageToolsError):
    """A file exists already, or one is missing."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of the command.

    out      the file to write; beside it, `NAME.training` holds the run: checkpoint, log, plot, held-out photos
    model    file to start from; None: the package's
    exclude  beginnings of paths in the folder to leave out
    measure  retrieval before and after
    """

    folder: Path
    out: Path
    model: Path | None = None
    teacher: Path | None = None
    exclude: tuple[str, ...] = ()
    resume: bool = False
    measure: bool = True


def train(options: TrainOptions, config: TrainConfig, console: Console | None = None) -> dict[str, Recall]:
    """Train, write the model, and show its recall before and after; return both by these names.

    TooFewPhotos, CannotTrain, ModelError and RunMismatch say what is in the way. KeyboardInterrupt leaves a
    checkpoint, from which `resume` continues.
    """
    console = console or Console(stderr=True, markup=False)
    run = options.out.with_name(options.out.name + ".training")
    _require_room(options, run)
    network, name = _start(options.model)
    teacher = _encoder(options.teacher) if options.teacher else None
    if options.resume:
        photos = stored_photos(run)
    else:
        photos = _read(options, run, config.seed, console)
        (run / HELD_OUT).write_text("".join(f"{path}\n" for path in photos.held_out), "utf-8")
    trainer = Trainer(network, name, photos, run, config, teacher=teacher)
    if options.resume:
        trainer.resume()
    console.print(
        f"{len(photos):,} photos to train on, {len(photos.held_out)} to measure with; from {name} "
        f"on {trainer.device}, step {trainer.step}"
    )
    with _progress(console) as progress:
        trainer.run(_shown(progress, console))
    trainer.export(options.out)
    if trainer.step:
        try:
            draw(run / LOG, run / PLOT)
        except PrerequisiteMissing as exc:
            console.print(str(exc))
    for name in (CHECKPOINT, LATEST, PIXELS, NAMES):
        (run / name).unlink(missing_ok=True)
    console.print(f"{options.out} is written; the log is in {run}")
    return _compare(options, photos, config.seed, console) if options.measure else {}


def _require_room(options: TrainOptions, run: Path) -> None:
    """Raise CannotTrain if a file would be overwritten, or the run to resume is missing."""
    started = (run / CHECKPOINT).exists()
    if options.resume and not started:
        raise CannotTrain(f"{run}: no checkpoint to resume from; leave out --resume to start a run")
    if not options.resume and started:
        raise CannotTrain(f"{run}: an interrupted run; --resume goes on with it, removing the folder starts over")
    if options.out.exists():
        raise CannotTrain(f"{options.out}: already there")
    if not options.out.parent.is_dir():
        raise CannotTrain(f"{options.out.parent}: no such folder")
    check_file(options.out, "--out")
    if not options.resume:
        shutil.rmtree(run, ignore_errors=True)


def _encoder(file: Path | None) -> Encoder:
    if file is None:
        return Encoder.load(EncoderConfig(DEFAULT_MODEL))
    if not file.is_file():
        raise CannotTrain(f"{file}: no such file")
    return Encoder.load(EncoderConfig(file.name, file.parent.resolve()))


def _start(file: Path | None) -> tuple[nn.Module, str]:
    """Return the network to start from, and its name with its digest."""
    if file is not None and not file.is_file():
        raise CannotTrain(f"{file}: no such file")
    name = file.name if file else DEFAULT_MODEL
    data = file.read_bytes() if file else (files("imagetools.models") / DEFAULT_MODEL).read_bytes()
    network = load_network(name, data)
    if not isinstance(network, ResNet):
        raise CannotTrain(f"{name}: only ResNet state dicts can be trained; any model can be a teacher")
    return network, f"{name}:{hashlib.sha256(data).hexdigest()[:12]}"


def _read(options: TrainOptions, run: Path, seed: int, console: Console) -> TrainingPhotos:
    passed = Tally()
    with _progress(console) as progress:
        task = progress.add_task("reading photos", total=None)
        photos = read_photos(
            options.folder,
            run,
            seed=seed,
            exclude=options.exclude,
            on_read=lambda done, of: progress.update(task, completed=done, total=of),
            on_skipped=lambda exc: console.print(Text(f"left out: {exc}")),
            on_passed_over=passed.add,
        )
    if passed.counts:
        console.print(Text(str(passed)))
    return photos


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _shown(progress: Progress, console: Console) -> Callable[[Step], None]:
    task = progress.add_task("training", total=None)

    def show(step: Step) -> None:
        progress.update(task, completed=step.step, total=step.steps, description=f"training, loss {step.loss:.3f}")
        if progress.disable and step.step % PLAIN_EVERY == 0:
            console.print(f"step {step.step} of {step.steps or '?'}: loss {step.loss:.3f}, {step.seconds:.0f} s")

    return show


def _compare(options: TrainOptions, photos: TrainingPhotos, seed: int, console: Console) -> dict[str, Recall]:
    """Compare retrieval of the held-out photos before and after."""
    models = {"before": _encoder(options.model), "after": _encoder(options.out)}
    return compare(models, options.folder, photos.held_out, photos.paths, seed=seed, console=console)


def stop_kept(out: Path) -> None:
    """Tell the user how to continue an interrupted run."""
    click.echo(f"Interrupted: the same command with --resume goes on; {out}.training holds the run", err=True)
