"""The folder of a sweep. Everything that a sweep knows is in its files, so it can be killed at any time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any

from edgeq.errors import InputError
from edgeq.files import replacing, write_text
from edgeq.sweeping.result import SweepCell
from edgeq.training import Epoch, History, epochs_so_far
from edgeq.work_folders import lock_folder, remove_leftovers

__all__ = ["LISTS", "Store"]

_SETTINGS = "settings.json"
_SPENT = "spent.json"
_LOCK = "lock"
LISTS = ("validation.csv", "test.csv")
"""Files that list the photos that are held out."""


class Store:
    """The folder of a sweep, for ``with Store.enter(...) as store``, which locks it.

    ::

        settings.json  what must be equal to resume
        spent.json     the time of all runs so far
        validation.csv, test.csv  the photos that are held out
        networks/NAME  of each network: files with random weights, the training, the converted files
        cells/NAME     of each cell: its file, the history of its training, and cell.json

    Attributes:
        folder: path of the folder.
    """

    def __init__(self, folder: Path, lock_file: IO[str]) -> None:
        self.folder, self._lock_file = folder, lock_file

    @classmethod
    def enter(cls, folder: Path, settings: dict[str, Any], resume: bool) -> Store:
        """Start a sweep in a folder, or continue the one there.

        Args:
            folder: the folder.
            settings: everything that must be equal to resume, as JSON data.
            resume: whether to continue.

        Raises:
            InputError: `resume` is false, but the folder is not empty; `resume` is true, but the folder holds no sweep,
                or one with other settings; another sweep is running there; or the folder cannot be written to.
        """
        busy = "another sweep is running there; wait, or choose another --out"
        store = cls(folder, lock_folder(folder, _LOCK, busy))
        cls.check(folder, resume)
        if resume:
            remove_leftovers(folder)
            store._compare(settings)
        else:
            write_text(folder / _SETTINGS, json.dumps(settings, indent=1) + "\n")
        return store

    @staticmethod
    def check(folder: Path, resume: bool) -> None:
        """Check whether a sweep can be started or continued in a folder; for the arguments and errors see `enter`."""
        begun = (folder / _SETTINGS).is_file()
        if not resume and begun:
            raise InputError(f"{folder}: holds a sweep; continue it with --resume, or choose another --out")
        if not resume and folder.exists():
            if not folder.is_dir():
                raise InputError(f"{folder}: is not a folder; choose another --out")
            others = [path.name for path in folder.iterdir() if path.name != _LOCK]
            if others:
                raise InputError(f"{folder}: holds files that no sweep wrote ({others[0]}); choose another --out")
        if resume and not begun:
            raise InputError(f"{folder}: no sweep to resume; omit --resume")

    def network(self, name: str) -> Path:
        """Return the folder of a network, which is created if needed."""
        return self._made(self.folder / "networks" / name)

    def read_cell(self, cell: SweepCell) -> SweepCell:
        """Return what is stored of a cell; the cell itself if nothing is."""
        path = self.folder / "cells" / cell.name / "cell.json"
        if not path.is_file():
            return cell
        return SweepCell.from_json(json.loads(path.read_text(encoding="utf-8")))

    def write_cell(self, cell: SweepCell) -> None:
        """Store a cell."""
        folder = self._made(self.folder / "cells" / cell.name)
        write_text(folder / "cell.json", json.dumps(cell.to_json(), indent=1) + "\n")

    def keep_file(self, cell: SweepCell, source: Path) -> str:
        """Put a file into a cell's folder, as a second link if possible; return its path within the sweep's folder."""
        folder = self._made(self.folder / "cells" / cell.name)
        with replacing([folder / source.name]) as (part,):
            try:
                os.link(source, part)
            except OSError:  # the file system has no hard links
                shutil.copy2(source, part)
        return f"cells/{cell.name}/{source.name}"

    def training(self, name: str) -> Path:
        """Return the path of the trained .keras file of a network."""
        return self.network(name) / f"{name}.keras"

    def epochs(self, name: str) -> list[Epoch]:
        """Return the epochs of a network's training so far."""
        history = self.network(name) / f"{name}.history.json"
        interrupted = epochs_so_far(self.training(name))
        if interrupted or not history.is_file():
            return interrupted
        return History.from_json(history.read_text(encoding="utf-8")).epochs

    def write_history(self, cell: SweepCell, network: str) -> None:
        """Write the epochs of a network's training so far into a cell's folder."""
        finished, path = self.network(network) / f"{network}.history.json", self.folder / "cells" / cell.name
        if finished.is_file():
            text = finished.read_text(encoding="utf-8")
        else:
            text = History({}, self.epochs(network)).to_json()
        write_text(self._made(path) / "history.json", text)

    def read_spent(self) -> float:
        """Return the seconds that all runs took so far."""
        with contextlib.suppress(OSError, ValueError):
            return float(json.loads((self.folder / _SPENT).read_text(encoding="utf-8"))["seconds"])
        return 0.0

    def write_spent(self, seconds: float) -> None:
        """Store the seconds that all runs took so far."""
        write_text(self.folder / _SPENT, json.dumps({"seconds": round(seconds, 1)}) + "\n")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and issubclass(kind, Exception) and not any(self.folder.glob("networks/*/random/*.tflite")):
            self._discard()
        self._lock_file.close()

    def _discard(self) -> None:
        """Delete the sweep's files, and the folder if it is then empty: there is no progress worth keeping."""
        for name in ("networks", "cells"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (_SETTINGS, _SPENT, *LISTS, _LOCK):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _made(self, folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot write ({error.strerror})") from None
        return folder

    def _compare(self, settings: dict[str, Any]) -> None:
        """Raise an `InputError` that names the settings that changed."""
        before = json.loads((self.folder / _SETTINGS).read_text(encoding="utf-8"))
        changed = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
        if changed:
            raise InputError(
                f"{self.folder}: the sweep was started with other settings ({', '.join(changed)}); give the same, or "
                "choose another --out"
            )
