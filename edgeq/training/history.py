"""What a training went through: as JSON for programs, as a picture of its learning curve for people."""

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
    """What was measured in one epoch.

    Attributes:
        cycle: of which it is part: ``head``, ``fine-tune`` or ``from scratch``.
        number: in its cycle, from 1.
        loss: mean cross entropy on the augmented training pictures, labels smoothed.
        top1: accuracy on the augmented training pictures, in [0, 1], while the weights still changed.
        validation_loss: mean cross entropy on the validation pictures.
        validation_top1: accuracy on the validation pictures, in [0, 1].
        seconds: since its cycle began.
    """

    cycle: str
    number: int
    loss: float
    top1: float
    validation_loss: float
    validation_top1: float
    seconds: float

    def is_better_than(self, other: Epoch) -> bool:
        """By accuracy on the validation pictures, then by loss on them."""
        ours, theirs = (self.validation_top1, -self.validation_loss), (other.validation_top1, -other.validation_loss)
        return ours > theirs

    def to_array(self) -> npt.NDArray[np.float64]:
        """Its numbers, (6,) float64."""
        return np.array(list(asdict(self).values())[1:], np.float64)

    @classmethod
    def from_array(cls, cycle: str, values: npt.NDArray[np.float64]) -> Epoch:
        """Undo `to_array`."""
        number, *others = values.tolist()
        return cls(cycle, int(number), *others)


@dataclass
class History:
    """All epochs of a training, and what it was.

    Attributes:
        settings: plain JSON data: data, network, and all that decides the result.
        epochs: in the order of time.
        result: plain JSON data on the network that was kept.
    """

    settings: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of the history file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> History:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        return cls(data["settings"], [Epoch(**epoch) for epoch in data["epochs"]], data["result"])


def draw_learning_curve(history: History, path: Path, title: str) -> None:
    """Draw loss and accuracy over the epochs, cycle after cycle, as PNG."""
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
