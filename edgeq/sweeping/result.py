"""The result of a sweep; these classes define its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.comparison import Comparison
from edgeq.comparison.metrics import wilson_interval
from edgeq.networks import Architecture

__all__ = ["CellAccuracy", "CellLatency", "Status", "Sweep", "SweepCell", "SweepPicks"]


class Status:
    """What became of a cell."""

    WAITING = "waiting"  # not reached: the budget ended
    UNUSABLE = "unusable"  # no weights, or it cannot be converted, run or trained
    OVER_LIMIT = "over limit"
    STOPPED = "stopped"  # trained for some epochs only; others were more promising
    FINISHED = "finished"


@dataclass(frozen=True)
class CellLatency:
    """The speed of a cell on one machine.

    Attributes:
        device: the board as the user named it; ``here`` for this machine.
        machine: name of the machine's hardware, or its architecture.
        emulated_by: architecture of the machine that emulates it, or None. Times under emulation are not the board's.
        runtime: name and version of the runtime.
        threads: number of threads.
        runs: number of inferences that were timed.
        median_ms: median time of an inference, in milliseconds.
        p90_ms: 90th percentile of the times.
        peak_rss_bytes: peak resident memory of the process (Python, NumPy, runtime, model); None if unknown.
    """

    device: str
    machine: str
    emulated_by: str | None
    runtime: str
    threads: int
    runs: int
    median_ms: float
    p90_ms: float
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class CellAccuracy:
    """The accuracy of a cell's file on a set of photos.

    Attributes:
        images: number of photos.
        top1: top-1 accuracy, in 0..1.
        top1_ci95: its 95 % interval (Wilson's score interval).
        agreement: fraction of the photos on which it predicts the same class as the float32 file of the same network.
        agreement_ci95: its 95 % interval.
    """

    images: int
    top1: float
    top1_ci95: tuple[float, float]
    agreement: float
    agreement_ci95: tuple[float, float]

    @classmethod
    def of(cls, comparison: Comparison) -> CellAccuracy:
        """Take the candidate's accuracy from a comparison on labelled images."""
        top1, count = comparison.candidate.top1, comparison.labelled
        assert top1 is not None
        return cls(count, top1, wilson_interval(top1 * count, count), comparison.agreement, comparison.agreement_ci95)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CellAccuracy:
        """Make an object from its JSON data."""
        intervals = {name: tuple(data[name]) for name in ("top1_ci95", "agreement_ci95")}
        return cls(**data | intervals)


@dataclass(frozen=True)
class SweepCell:
    """One cell of the grid: what was measured of it. None means not measured.

    Attributes:
        name: name of the cell: that of the network and the format.
        network: family of the network.
        alpha: width multiplier.
        height: height of the input in pixels.
        width: width of the input in pixels.
        output_stride: output stride.
        format: format of the file.
        status: a name in `Status`.
        reason: why the cell is not finished; empty if it is.
        size_bytes: size of the file in bytes.
        latencies: the speed on each board.
        epochs: number of epochs that the network was trained.
        float_top1: validation accuracy of the float network in Keras after its best epoch, in 0..1.
        validation: accuracy of the file on the validation photos, which all choices use.
        test: accuracy on the test photos, which no choice uses; only of the picks.
        file: path of the .tflite file, relative to the sweep's folder.
    """

    name: str
    network: str
    alpha: float
    height: int
    width: int
    output_stride: int
    format: str
    status: str = Status.WAITING
    reason: str = ""
    size_bytes: int | None = None
    latencies: tuple[CellLatency, ...] = ()
    epochs: int = 0
    float_top1: float | None = None
    validation: CellAccuracy | None = None
    test: CellAccuracy | None = None
    file: str | None = None

    @classmethod
    def of(cls, architecture: Architecture, form: str) -> SweepCell:
        """Make the empty result of an architecture in one format."""
        a = architecture
        name = f"{a.name}_{form}"
        return cls(name, a.family, float(a.alpha), a.height, a.width, a.output_stride, form)

    @property
    def latency_ms(self) -> float | None:
        """Median latency on the slowest board."""
        return max((latency.median_ms for latency in self.latencies), default=None)

    @property
    def p90_ms(self) -> float | None:
        """90th percentile of the latency on the slowest board."""
        slowest = max(self.latencies, key=lambda latency: latency.median_ms, default=None)
        return slowest.p90_ms if slowest else None

    @property
    def peak_rss_bytes(self) -> int | None:
        """Largest peak memory of all boards."""
        return max((latency.peak_rss_bytes or 0 for latency in self.latencies), default=0) or None

    @property
    def top1(self) -> float | None:
        """Validation accuracy of the file."""
        return self.validation.top1 if self.validation else None

    def to_json(self) -> dict[str, Any]:
        """Return the attributes, and the values for the slowest board, as plain JSON data."""
        slowest = {name: getattr(self, name) for name in ("latency_ms", "p90_ms", "peak_rss_bytes")}
        return asdict(self) | slowest

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SweepCell:
        """Make an object from the data that `to_json` returns."""
        known = {name: data[name] for name in cls.__dataclass_fields__}
        known["latencies"] = tuple(CellLatency(**latency) for latency in data["latencies"])
        for name in ("validation", "test"):
            known[name] = data[name] and CellAccuracy.from_json(data[name])
        return cls(**known)


@dataclass(frozen=True)
class SweepPicks:
    """The cells that a sweep recommends, by name. They are chosen by validation accuracy, among the finished cells.

    Attributes:
        most_accurate: the most accurate cell within the limits.
        fastest: the fastest cell whose accuracy is at least the wanted one; None if there is none.
        best_trade: the point of the front farthest above the line between its ends.
    """

    most_accurate: str
    fastest: str | None
    best_trade: str


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep.

    Attributes:
        settings: the settings, by the name of the option.
        classes: number of classes.
        training_photos: number of photos to train on.
        validation_photos: number of photos that all choices use.
        test_photos: number of photos that no choice uses.
        epochs: number of epochs of a whole training; 0 if the networks were not trained.
        cells: all cells, in the order of the grid.
        front: names of the cells on the Pareto front of validation accuracy and latency, the fastest first.
        picks: the recommended cells; None if no cell is finished.
        seconds: time of all runs of the sweep together.
        notes: notes on the measurements; each is a sentence without a full stop.
    """

    settings: dict[str, Any]
    classes: int
    training_photos: int
    validation_photos: int
    test_photos: int
    epochs: int
    cells: tuple[SweepCell, ...]
    front: tuple[str, ...]
    picks: SweepPicks | None
    seconds: float
    notes: tuple[str, ...]

    def cell(self, name: str) -> SweepCell:
        """Return the cell of that name."""
        return next(cell for cell in self.cells if cell.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data."""
        return asdict(self) | {"cells": [cell.to_json() for cell in self.cells]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sweep:
        """Make an object from the data that `to_json` returns."""
        cells = tuple(SweepCell.from_json(cell) for cell in data["cells"])
        front, notes = tuple(data["front"]), tuple(data["notes"])
        picks = data["picks"] and SweepPicks(**data["picks"])
        return cls(**data | {"cells": cells, "front": front, "notes": notes, "picks": picks})
