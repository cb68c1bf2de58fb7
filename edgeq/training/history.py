"""The history of a training: its epochs as JSON, and its learning curve as an image."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Epoch", "History", "draw_learning_curve"]


@dataclass(frozen=True)
class Epoch:
    """The measurements of one epoch.

    Attributes:
        cycle: name of the phase that the epoch belongs to: ``head``, ``fine-tune`` or ``from scratch``.
        number: number of the epoch in its phase, from 1.
        loss: mean cross-entropy on the augmented training photos with smoothed labels.
        top1: top-1 accuracy on the augmented training photos during the epoch, in [0, 1].
        validation_loss: mean cross-entropy on the validation photos after the epoch.
        validation_top1: top-1 accuracy on the validation photos after the epoch, in [0, 1].
        seconds: training time since the phase began.
    """

    cycle: str
    number: int
    loss: float
    top1: float
    validation_loss: float
    validation_top1: float
    seconds: float

    def is_better_than(self, other: Epoch) -> bool:
        """Return whether this epoch has a higher validation accuracy or, if that is equal, a lower validation loss."""
        ours, theirs = (self.validation_top1, -self.validation_loss), (other.validation_top1, -other.validation_loss)
        return ours > theirs

    def to_array(self) -> npt.NDArray[np.float64]:
        """Return the attributes except `cycle` as a (6,) float64 array."""
        return np.array(list(asdict(self).values())[1:], np.float64)

    @classmethod
    def from_array(cls, cycle: str, values: npt.NDArray[np.float64]) -> Epoch:
        """Make an epoch from the array that `to_array` returns."""
        number, *others = values.tolist()
        return cls(cycle, int(number), *others)


@dataclass
class History:
    """The history of a training.

    Attributes:
        settings: everything that determines the result (photos, network, plan), as plain JSON data.
        epochs: all epochs, in order.
        result: facts about the network of the best epoch, as plain JSON data.
    """

    settings: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text of the history file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> History:
        """Make a history from the text that `to_json` returns."""
        data = json.loads(text)
        return cls(data["settings"], [Epoch(**epoch) for epoch in data["epochs"]], data["result"])


def draw_learning_curve(history: History, path: Path, title: str) -> None:
    """Draw loss and accuracy over the epochs of all phases as a PNG file."""
    from matplotlib.figure import Figure

    epochs = history.epochs
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(1, len(epochs) + 1)
    for axes, ours, theirs, what in (
        (left, [e.loss for e in epochs], [e.validation_loss for e in epochs], "cross entropy"),
        (right, [100 * e.top1 for e in epochs], [100 * e.validation_top1 for e in epochs], "top-1, %"),
    ):
        axes.plot(places, ours, label="training, augmented", color="tab:blue", marker=".")
        axes.plot(places, theirs, label="validation", color="tab:orange", marker=".")
        axes.set(xlabel="epoch", ylabel=what)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        for place in range(1, len(epochs)):
            if epochs[place].cycle != epochs[place - 1].cycle:
                axes.axvline(place + 0.5, color="grey", linestyle=":")
                axes.annotate(f" {epochs[place].cycle}", (place + 0.5, 1), xycoords=("data", "axes fraction"), va="top")
        axes.legend(frameon=False)
    figure.suptitle(title.encode(errors="replace").decode(), parse_math=False)
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})
