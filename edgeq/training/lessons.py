"""Two ways of training: all layers from pixels, or the top of a trained network from what the rest makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.networks import Architecture
from edgeq.progress import Progress
from edgeq.training.cycle import Cycle, Examples, Settings, measure
from edgeq.training.fused import quieten_blocks, training_twin
from edgeq.training.history import Epoch
from edgeq.training.photos import PhotoSet
from edgeq.training.plan import Plan
from edgeq.training.transfer import (
    Views,
    back_half,
    between,
    compute_views,
    cut_at_pooling,
    cut_before_blocks,
    freeze_norms,
    front_half,
)

__all__ = ["Cycles", "Lesson", "from_scratch", "transfer"]

Cycles = Iterator[tuple[Cycle, Examples, Callable[[], tuple[float, float]]]]
"""Cycles, one after the other, each with what makes its inputs and what measures it."""

_WEIGHT_DECAY = {"head": 0.01, "fine-tune": 0.01, "from scratch": 0.05}


@dataclass(frozen=True)
class Lesson:
    """What every way of training works on.

    Attributes:
        model: the network; gives logits.
        architecture: of the network.
        plan: how to train.
        photos: names and classes.
        training: pixels, (N, H, W, 3) uint8, with edges for crops.
        validation: pixels, (M, height, width, 3) uint8.
    """

    model: Any
    architecture: Architecture
    plan: Plan
    photos: PhotoSet
    training: npt.NDArray[np.uint8]
    validation: npt.NDArray[np.uint8]

    @property
    def validation_labels(self) -> npt.NDArray[np.int64]:
        """(M,) class indices."""
        return np.array([photo.class_index for photo in self.photos.validation], np.int64)

    def plain(self, places: slice) -> npt.NDArray[np.uint8]:
        """Training photos as inference sees them, without the edges: (n, height, width, 3) uint8."""
        preprocessing = self.architecture.preprocessing
        return np.stack([preprocessing.pixels(photo.path) for photo in self.photos.training[places]])

    def cycle(
        self, name: str, model: Any, trained: list[Any], kept: list[Any], begun_with: Epoch | None = None
    ) -> Cycle:
        """A cycle of `plan` on the training photos."""
        plan = self.plan
        fine = name == "fine-tune"
        settings = Settings(
            plan.fine_tune_epochs if fine else plan.epochs,
            plan.fine_tune_rate if fine else plan.learning_rate,
            _WEIGHT_DECAY[name],
            plan.batch,
            patience=plan.patience,
            seed=plan.seed,
        )
        labels = np.array([photo.class_index for photo in self.photos.training])
        return Cycle(name, model, trained, kept, labels, len(self.photos.classes), settings, begun_with)


def from_scratch(lesson: Lesson) -> Cycles:
    """All layers learn, from pixels that are augmented anew in each epoch."""
    import tensorflow as tf

    model, preprocessing = lesson.model, lesson.architecture.preprocessing
    quieten_blocks(model)
    plan, count = lesson.plan, len(lesson.photos.training)
    twin = training_twin(model, plan.epochs * max(1, count // plan.batch))
    change = plan.augmentation.apply
    augment = tf.function(lambda x, seed: change(x, preprocessing, seed), reduce_retracing=True)
    forward = tf.function(twin, reduce_retracing=True)

    def examples(places: npt.NDArray[np.int64], epoch: int, step: int) -> Any:
        return augment(tf.constant(lesson.training[places]), tf.constant([plan.seed, step]))

    def validate() -> tuple[float, float]:
        return measure(forward, lambda part: preprocessing.normalize(lesson.validation[part]), lesson.validation_labels)

    yield lesson.cycle("from scratch", twin, model.trainable_variables, model.variables), examples, validate


def transfer(lesson: Lesson, scratch: Path, progress: Progress) -> Cycles:
    """The head learns on what the frozen layers make of the photos; then the top blocks learn with it."""
    model, plan = lesson.model, lesson.plan
    freeze_norms(model)
    pooled = cut_at_pooling(model)
    cut = cut_before_blocks(model, plan.fine_tune) if plan.fine_tune else pooled
    views = compute_views(
        front_half(model, cut),
        lesson.plain,
        lesson.training,
        lesson.validation,
        lesson.architecture.preprocessing,
        plan.augmentation,
        plan.views,
        plan.seed,
        scratch,
        progress,
    )
    head = _on_views(lesson, "head", pooled, views.through(between(cut, pooled)) if plan.fine_tune else views)
    yield head
    if plan.fine_tune:
        yield _on_views(lesson, "fine-tune", cut, views, begun_with=head[0].best)


def _on_views(
    lesson: Lesson, name: str, cut: Any, views: Views, begun_with: Epoch | None = None
) -> tuple[Cycle, Examples, Callable[[], tuple[float, float]]]:
    import tensorflow as tf

    back = back_half(lesson.model, cut)
    forward = tf.function(back, reduce_retracing=True)

    def validate() -> tuple[float, float]:
        return measure(forward, views.validation_inputs, lesson.validation_labels)

    cycle = lesson.cycle(name, back, back.trainable_variables, back.variables, begun_with)
    return cycle, views.examples(lesson.plan.seed), validate
