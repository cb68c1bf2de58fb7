"""The folder of an unfinished training, from which it can be resumed. An interruption loses at most one epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from edgeq.errors import DivergedError, InputError
from edgeq.files import write_text
from edgeq.progress import Progress
from edgeq.training.history import Epoch, History
from edgeq.training.phases import Examples, Phase, Validate
from edgeq.work_folders import lock_folder, remove_leftovers

__all__ = ["RunDirectory", "can_resume", "epochs_so_far"]

_HISTORY = "history.json"
_FINISHED_VIEWS = "view-*.npy"
_LOCK = "lock"
_OURS = (_HISTORY, _LOCK, "*.npy", "*.npz", "*.part")


def can_resume(out: str | Path) -> bool:
    """Return whether there is an interrupted training of a .keras file, which can be resumed."""
    return (_folder_of(Path(out)) / _HISTORY).is_file()


def epochs_so_far(out: str | Path) -> list[Epoch]:
    """Return the epochs of an interrupted training of a .keras file; empty if there is none."""
    if not can_resume(out):
        return []
    return History.from_json((_folder_of(Path(out)) / _HISTORY).read_text(encoding="utf-8")).epochs


def _folder_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.training")


class RunDirectory:
    """The folder of an unfinished training: its history, its state, and the outputs of the frozen layers.

    Use it as ``with RunDirectory.enter(...) as run_directory``. The folder is deleted if the block succeeds, or if it
    fails before there is any progress worth keeping.

    Attributes:
        folder: path of the folder.
        history: the training's history so far.
    """

    def __init__(self, folder: Path, history: History) -> None:
        self.folder, self.history = folder, history

    @classmethod
    def enter(cls, target: Path, settings: dict[str, Any], resume: bool) -> RunDirectory:
        """Start a training, or continue an interrupted one.

        Args:
            target: the .keras file to train; the folder is beside it.
            settings: everything that determines the result, as JSON data.
            resume: whether to continue an interrupted training.

        Raises:
            InputError: `resume` is false, but there is an interrupted training; `resume` is true, but there is none, or
                one with other settings; another training is running in the folder; or the folder contains other files.
        """
        folder = _folder_of(target)
        run_directory = cls(folder, History(_plain(settings)))
        if not resume:
            others = [path.name for path in _files(folder) if not any(path.match(pattern) for pattern in _OURS)]
            if others:
                raise InputError(
                    f"{folder}: holds files that are not part of a training ({others[0]}); choose another --out"
                )
            run_directory._lock()
            if run_directory._holds_work():
                raise InputError(
                    f"{folder}: holds an interrupted training; continue with --resume, or delete it to start over"
                )
            run_directory.discard(keep=_LOCK)
            run_directory._write_history()
            return run_directory
        if not can_resume(target):
            raise InputError(f"{folder}: no interrupted training to resume; omit --resume")
        run_directory._lock()
        run_directory.history = History.from_json((folder / _HISTORY).read_text(encoding="utf-8"))
        run_directory._compare(settings)
        return run_directory

    def settle(self, settings: dict[str, Any]) -> None:
        """Add settings that become known only during the training to the history.

        Raises:
            InputError: a resumed training has other settings.
        """
        if settings.keys() <= self.history.settings.keys():
            self._compare(settings)
        else:
            self.history.settings |= _plain(settings)
            self._write_history()

    def run(
        self,
        phase: Phase,
        examples: Examples,
        validate: Validate,
        progress: Progress,
        on_epoch: Callable[[Epoch], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train a phase to its end, from where it was interrupted, and restore its best epoch.

        Args:
            phase: the phase.
            examples: makes the inputs of a step.
            validate: returns loss and top-1 accuracy on the validation photos.
            progress: called with (stage, steps done, number of steps).
            on_epoch: called after each epoch.
            stop: called before each epoch except the very first; True ends the phase.

        Raises:
            DivergedError: the loss became NaN or infinite.
            InputError: the disk is full.
        """
        state = self.folder / f"{phase.name.replace(' ', '-')}.state.npz"
        if state.exists():
            phase.resume(state)
        stage = f"Training ({phase.name})"
        # The last epoch may have been written to the history, but not to the state.
        self.history.epochs = [e for e in self.history.epochs if e.cycle != phase.name or e.number <= phase.epochs_done]
        while not phase.finished and not (self.history.epochs and stop()):
            try:
                epoch = phase.train_epoch(examples, validate, partial(progress, f"{stage} {phase.epochs_done + 1}"))
            except FloatingPointError as error:
                self.discard()
                rate = phase.settings.learning_rate
                raise DivergedError(f"{error}; try a lower learning rate than {rate:g}") from None
            self.history.epochs.append(epoch)
            self._write_history()
            phase.save(state)
            on_epoch(epoch)
        phase.take_best()

    def discard(self, keep: str = "") -> None:
        """Delete the training's files, except the one named `keep`, and the folder if it is then empty."""
        remove_leftovers(self.folder)
        for path in _files(self.folder):
            if path.name != keep and any(path.match(pattern) for pattern in _OURS):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder does not exist, or contains other files
            self.folder.rmdir()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None or (issubclass(kind, Exception) and not self._holds_work()):
            self.discard()
        self._lock_file.close()

    def _lock(self) -> None:
        """Lock the folder against other trainings until this process ends or closes the lock file.

        Raises:
            InputError: another training is running there, or the folder cannot be created.
        """
        busy = "another training is running there; wait until it has finished, or choose another --out"
        self._lock_file = lock_folder(self.folder, _LOCK, busy)

    def _holds_work(self) -> bool:
        """Return whether at least one epoch, or one pass of the frozen layers, is complete."""
        started = self.folder / _HISTORY
        if not started.is_file():
            return False
        return any(self.folder.glob(_FINISHED_VIEWS)) or bool(
            History.from_json(started.read_text(encoding="utf-8")).epochs
        )

    def _write_history(self) -> None:
        write_text(self.folder / _HISTORY, self.history.to_json())

    def _compare(self, settings: dict[str, Any]) -> None:
        before = self.history.settings
        different = [key for key, value in _plain(settings).items() if before.get(key) != value]
        if different:
            names = ", ".join(key.removesuffix("_sha256").replace("_", " ") for key in different)
            raise InputError(
                f"{self.folder}: was started with other photos or options ({names}); give the same, or delete it to "
                "start over"
            )


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings as they are read back from JSON, with lists instead of tuples."""
    return History.from_json(History(settings).to_json()).settings
