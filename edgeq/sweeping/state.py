"""What all stages of a sweep share: its plan, its folder, its networks and its cells."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.networks import Architecture
from edgeq.progress import Progress
from edgeq.sweeping.budget import Budget
from edgeq.sweeping.photos import SweepPhotos
from edgeq.sweeping.plan import SweepPlan
from edgeq.sweeping.result import Status, SweepCell
from edgeq.sweeping.running import TaskRunner
from edgeq.sweeping.store import Store
from edgeq.training import Epoch

__all__ = ["Candidate", "Pace", "State", "log"]

log = logging.getLogger("edgeq.sweeping")


class Candidate:
    """A network of the grid, with its cells: one per format.

    Attributes:
        architecture: the architecture.
        cells: the cells, by format.
    """

    def __init__(self, architecture: Architecture, formats: Sequence[str], store: Store) -> None:
        self.architecture, self._store = architecture, store
        self.cells = {form: store.read_cell(SweepCell.of(architecture, form)) for form in formats}

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.architecture.name

    @property
    def description(self) -> dict[str, Any]:
        """The architecture as JSON data."""
        return asdict(self.architecture)

    @property
    def usable(self) -> list[SweepCell]:
        """The cells that can still be finished, or are finished."""
        return [cell for cell in self.cells.values() if cell.status not in (Status.UNUSABLE, Status.OVER_LIMIT)]

    @property
    def measured(self) -> list[SweepCell]:
        """The usable cells whose latency is known, so that they can be trained and finished."""
        return [cell for cell in self.usable if cell.latencies]

    @property
    def latency_ms(self) -> float:
        """Latency of the fastest measured cell."""
        return min(cell.latency_ms for cell in self.measured if cell.latency_ms is not None)

    def update(self, cells: Iterable[SweepCell] | None = None, **changes: Any) -> None:
        """Change cells, by default all usable ones, and store them."""
        for cell in self.usable if cells is None else cells:
            changed = replace(cell, **changes)
            if changed != cell:
                self._store.write_cell(changed)
            self.cells[cell.format] = changed


@dataclass
class Pace:
    """How long things take, to keep a budget.

    Attributes:
        finish_s: estimated time to convert a network with its final weights and to measure it, in seconds.
    """

    finish_s: float = 30.0


@dataclass(frozen=True)
class State:
    """What all stages of a sweep share.

    Attributes:
        plan: the plan.
        folder: the folder of photos.
        photos: the photos.
        lists: the CSV files of the validation and the test photos.
        store: the sweep's folder.
        runner: runs the tasks.
        budget: the time.
        candidates: the networks of the grid.
        pace: how long things take.
        progress: called with (stage, done, total).
    """

    plan: SweepPlan
    folder: Path
    photos: SweepPhotos
    lists: tuple[Path, Path]
    store: Store
    runner: TaskRunner
    budget: Budget
    candidates: tuple[Candidate, ...]
    pace: Pace
    progress: Progress

    def epochs(self, candidate: Candidate) -> list[Epoch]:
        """Return the epochs that a network was trained so far."""
        return self.store.epochs(candidate.name)

    @property
    def cells(self) -> list[SweepCell]:
        """All cells, in the order of the grid."""
        return [cell for candidate in self.candidates for cell in candidate.cells.values()]
