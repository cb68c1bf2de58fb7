"""The two ways to train: all layers from scratch, or the top of a trained network on the outputs of frozen layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.networks import Architecture
from edgeq.networks.network import in_new_session
from edgeq.progress import Progress
from edgeq.training.fused import with_fused_batchnorm, zero_init_residual
from edgeq.training.history import Epoch
from edgeq.training.phases import Examples, Phase, PhaseSettings, Validate, measure
from edgeq.training.photos import PhotoSet
from edgeq.training.plan import TrainingPlan
from edgeq.training.transfer import Views, compute_views, cut_at_pooling, cut_before_blocks, freeze_norms

__all__ = ["Phases", "TrainingJob", "from_scratch", "transfer"]

Phases = Iterator[tuple[Phase, Examples, Validate]]
"""The phases in order, each with a function that makes its inputs and one that returns validation loss and top-1."""

_WEIGHT_DECAY = {"head": 0.01, "fine-tune": 0.01, "from scratch": 0.05}


@dataclass(frozen=True)
class TrainingJob:
    """The input of both ways to train.

    Attributes:
        model: the network, which outputs logits.
        architecture: the network's architecture.
        plan: how to train.
        photos: the photos' files and classes.
        training: pixels of the training photos, (N, H, W, 3) uint8, with a margin for random crops.
        validation: pixels of the validation photos, (M, height, width, 3) uint8.
    """

    model: Any
    architecture: Architecture
    plan: TrainingPlan
    photos: PhotoSet
    training: npt.NDArray[np.uint8]
    validation: npt.NDArray[np.uint8]

    @property
    def validation_labels(self) -> npt.NDArray[np.int64]:
        """Class indices of the validation photos, (M,) int64."""
        return np.array([photo.class_index for photo in self.photos.validation], np.int64)

    def plain(self, part: slice) -> npt.NDArray[np.uint8]:
        """Decode a slice of the training photos with the preprocessing of inference: (n, height, width, 3) uint8."""
        preprocessing = self.architecture.preprocessing
        return np.stack([preprocessing.pixels(photo.path) for photo in self.photos.training[part]])

    def phase(
        self, name: str, model: Any, trained: list[Any], kept: list[Any], begun_with: Epoch | None = None
    ) -> Phase:
        """Make a phase with the plan's settings, on the training photos; for the arguments see `Phase`."""
        plan = self.plan
        fine = name == "fine-tune"
        settings = PhaseSettings(
            plan.fine_tune_epochs if fine else plan.epochs,
            plan.fine_tune_rate if fine else plan.learning_rate,
            _WEIGHT_DECAY[name],
            plan.batch,
            patience=plan.patience,
            seed=plan.seed,
        )
        labels = np.array([photo.class_index for photo in self.photos.training])
        return Phase(name, model, trained, kept, labels, len(self.photos.classes), settings, begun_with)


def from_scratch(job: TrainingJob) -> Phases:
    """Train all layers on photos with new augmentation in each epoch."""
    import tensorflow as tf

    model, preprocessing = job.model, job.architecture.preprocessing
    zero_init_residual(model)
    plan, count = job.plan, len(job.photos.training)
    steps = plan.epochs * max(1, count // plan.batch)
    twin = in_new_session(lambda: with_fused_batchnorm(model, steps))
    change = plan.augmentation.apply
    augment = tf.function(lambda x, seed: change(x, preprocessing, seed), reduce_retracing=True, autograph=False)
    forward = tf.function(twin, reduce_retracing=True, autograph=False)

    def examples(indices: npt.NDArray[np.int64], step: int) -> Any:
        return augment(tf.constant(job.training[indices]), tf.constant([plan.seed, step]))

    def validate() -> tuple[float, float]:
        return measure(forward, lambda part: preprocessing.normalize(job.validation[part]), job.validation_labels)

    yield job.phase("from scratch", twin, model.trainable_variables, model.variables), examples, validate


def transfer(job: TrainingJob, scratch: Path, progress: Progress) -> Phases:
    """Train the head on the outputs of the frozen layers, then the head and the top blocks together."""
    import keras

    model, plan = job.model, job.plan
    freeze_norms(model)
    pooled = cut_at_pooling(model)
    cut = cut_before_blocks(model, plan.fine_tune) if plan.fine_tune else pooled
    views = compute_views(
        keras.Model(model.input, cut),
        job.plain,
        job.training,
        job.validation,
        job.architecture.preprocessing,
        plan.augmentation,
        plan.views,
        plan.seed,
        scratch,
        progress,
    )
    head = _on_views(job, "head", pooled, views.through(keras.Model(cut, pooled)) if plan.fine_tune else views)
    yield head
    if plan.fine_tune:
        yield _on_views(job, "fine-tune", cut, views, begun_with=head[0].best)


def _on_views(
    job: TrainingJob, name: str, cut: Any, views: Views, begun_with: Epoch | None = None
) -> tuple[Phase, Examples, Validate]:
    import keras
    import tensorflow as tf

    back = keras.Model(cut, job.model.output)
    forward = tf.function(back, reduce_retracing=True, autograph=False)

    def validate() -> tuple[float, float]:
        return measure(forward, views.validation_inputs, job.validation_labels)

    phase = job.phase(name, back, back.trainable_variables, back.variables, begun_with)
    return phase, views.examples(job.plan.seed), validate
