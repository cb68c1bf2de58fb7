"""Train a network on a folder of photos, and write it as a .keras file with its history beside it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import edgeq
from edgeq.errors import EdgeqError, InputError
from edgeq.files import replacing, write_text
from edgeq.networks import Architecture, Network, build_keras_model, build_network
from edgeq.networks.building import randomize
from edgeq.networks.head import CLASSIFIER
from edgeq.networks.network import in_new_session
from edgeq.networks.saving import save_network
from edgeq.progress import Progress, no_progress
from edgeq.tflite.metadata import FINGERPRINT_LENGTH, ModelMetadata
from edgeq.training.history import Epoch, History, draw_learning_curve
from edgeq.training.jobs import TrainingJob, from_scratch, transfer
from edgeq.training.photos import PhotoSet, decode_photos, read_photos, write_photo_list
from edgeq.training.plan import TrainingPlan
from edgeq.training.run_directory import RunDirectory
from edgeq.training.transfer import cut_before_blocks

__all__ = ["Trained", "train"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        network: the .keras file.
        history: the JSON file with the history.
        curve: the PNG file with the learning curve.
        held_out: the CSV file that lists the validation photos and their classes, for `edgeq compare --data`.
        photos: the training and validation photos.
        best: the epoch whose weights were kept.
        seconds: total time of all epochs.
        remarks: notes to the user on the choices that were made; each is a sentence.
    """

    network: Path
    history: Path
    curve: Path
    held_out: Path
    photos: PhotoSet
    best: Epoch
    seconds: float
    remarks: tuple[str, ...]


def train(
    folder: str | Path,
    out: str | Path,
    plan: TrainingPlan | None = None,
    *,
    resume: bool = False,
    progress: Progress = no_progress,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train a network on a folder of photos.

    An interrupted training leaves its progress in the folder ``OUT.training``, from which `resume` continues it. The
    choice of weights is logged before the first epoch. Keras's session and dtype policy, and the global random states
    of Python, NumPy and TensorFlow, are not changed.

    Example:
        >>> trained = edgeq.train("photos/", "flowers.keras", edgeq.TrainingPlan(epochs=5))
        >>> trained.best.validation_top1
        0.932

    Args:
        folder: folder of photos, one sub-folder per class.
        out: the .keras file to write; NAME.history.json, NAME.history.png and NAME.validation.csv are written beside
            it.
        plan: how to train; None for the defaults of `TrainingPlan`.
        resume: whether to continue an interrupted training with the same plan and photos.
        progress: called with (stage, done, total).
        on_epoch: called after each epoch, which is then saved. If it raises an exception, the training is interrupted
            and can be resumed.
        stop: called before each epoch except the first. If it returns True, the training ends with the best epoch so
            far, as if all epochs were done.

    Raises:
        InputError: the photos, a size or a file is unusable.
        DivergedError: the loss became NaN or infinite.
        WeightsError: the initial weights are unavailable.
        EdgeqError: TensorFlow or matplotlib is not installed.
    """
    plan = plan or TrainingPlan()
    target = Path(out)
    paths = _results(target, folder)
    _require_matplotlib()
    photos = read_photos(folder, plan.validation_share, plan.seed, progress, plan.test_share)
    architecture = replace(plan.architecture, classes=len(photos.classes))
    settings = plan.to_json() | {
        "architecture": {key: value for key, value in asdict(architecture).items() if key != "alpha"},
        "photos_sha256": photos.sha256,
        "edgeq": edgeq.__version__,
    }
    with _own_randomness(), RunDirectory.enter(target, settings, resume) as run_directory:
        progress("Building the network", 0, 1)
        source = None if plan.is_from_scratch else _source(plan)
        if source is not None:
            architecture = replace(architecture, alpha=source.parent["alpha"])
        begun_with = _begun_with(source)
        run_directory.settle({"begun_with": begun_with, "width_multiplier": architecture.alpha})
        for sentence in source.remarks if source else ():
            _log.info(sentence)
        model = _begin(architecture, source, plan.seed)
        if plan.fine_tune:
            cut_before_blocks(model, plan.fine_tune)  # check the number of blocks before decoding the photos
        photos, training, validation = decode_photos(photos, architecture.preprocessing, run_directory.folder, progress)
        job = TrainingJob(model, architecture, plan, photos, training, validation)
        phases = transfer(job, run_directory.folder, progress) if source else from_scratch(job)
        best: Epoch | None = None
        for phase, examples, validate in phases:
            run_directory.run(phase, examples, validate, progress, on_epoch, stop)
            best = phase.best
        assert best
        run_directory.history.result = _result(photos, best)
        _write(job, paths, run_directory.history, best, begun_with)
    last = {epoch.cycle: epoch.seconds for epoch in run_directory.history.epochs}
    return Trained(*paths, photos, best, sum(last.values()), source.remarks if source else ())


def _results(target: Path, folder: str | Path) -> tuple[Path, Path, Path, Path]:
    """Return the paths of the files to write, after checking them, because the training may take hours."""
    if target.suffix != ".keras":
        raise InputError(f"{target}: must end in .keras")
    if Path(folder).resolve() in target.resolve().parents:
        raise InputError(
            f"{target}: lies among the photos of {folder}, and would be taken for one; choose another --out"
        )
    stem = target.with_suffix("")
    paths = (target, Path(f"{stem}.history.json"), Path(f"{stem}.history.png"), Path(f"{stem}.validation.csv"))
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; choose another --out")
    return paths


def _require_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise EdgeqError("learning curves need matplotlib, which is not installed: pip install 'edgeq[convert]'")


def _source(plan: TrainingPlan) -> Network:
    """Build the network with trained weights, from which the new network's layers are initialized."""
    architecture = plan.architecture
    return build_network(
        architecture.family,
        architecture.height,
        architecture.width,
        alpha=plan.alpha,
        output_stride=architecture.output_stride,
        weights=plan.weights,
    )


def _begun_with(source: Network | None) -> dict[str, Any]:
    """Return name and digest of the initial weights, for history and provenance."""
    facts = source.parent if source else {"weights": "random"}
    return {key: facts[key] for key in ("weights", "sha256") if key in facts}


def _begin(architecture: Architecture, source: Network | None, seed: int) -> Any:
    """Build the network to train. Layers that the source has too get its weights; the others get random ones."""
    random.seed(seed)
    model = in_new_session(lambda: build_keras_model(architecture, "linear"))
    if source is None:
        return model
    randomize(model, seed)
    trained = {layer.name: layer for layer in source.keeps_alive.layers}
    for layer in model.layers:
        twin = trained.get(layer.name)
        if twin is None or layer.name in (CLASSIFIER, "logits"):
            continue
        values = twin.get_weights()
        if [value.shape for value in values] == [value.shape for value in layer.get_weights()]:
            layer.set_weights(values)
    return model


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    """Restore the state of Python's `random` after the block, because Keras draws the seeds of layers from it."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


def _result(photos: PhotoSet, best: Epoch) -> dict[str, Any]:
    """Return the facts about the best epoch's network, for the history."""
    return {
        "classes": list(photos.classes),
        "training_photos": len(photos.training),
        "validation_photos": len(photos.validation),
        "validation_top1": best.validation_top1,
        "best_epoch": {"cycle": best.cycle, "number": best.number},
    }


def _write(
    job: TrainingJob, paths: tuple[Path, Path, Path, Path], history: History, best: Epoch, begun_with: dict[str, Any]
) -> None:
    """Write the network and the files beside it, all or none."""
    import keras
    import tensorflow as tf

    architecture, photos, plan, target = job.architecture, job.photos, job.plan, paths[0]
    values = job.model.get_weights()
    random.seed(plan.seed)
    network = in_new_session(lambda: build_keras_model(architecture))
    network.set_weights(values)
    provenance = architecture.to_json() | {
        "begun_with": begun_with,
        "trained_on": {"photos": len(photos.training), "sha256": photos.sha256},
        "validation_top1": round(best.validation_top1, 4),
        "seed": plan.seed,
        "tools": {"edgeq": edgeq.__version__, "tensorflow": tf.__version__, "keras": keras.__version__},
    }
    held_out = tuple(photo.digest[:FINGERPRINT_LENGTH] for photo in photos.validation + photos.test)
    metadata = ModelMetadata(photos.classes, architecture.preprocessing, "probabilities", provenance, held_out)
    title = f"{target.name}: {100 * best.validation_top1:.1f} % of {len(photos.validation)} validation photos"
    with replacing(paths) as parts:
        save_network(network, parts[0], metadata)
        write_text(parts[1], history.to_json())
        draw_learning_curve(history, parts[2], title)
        write_photo_list(parts[3], ((photo.path, photo.class_index) for photo in photos.validation), target.parent)
