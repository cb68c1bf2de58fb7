"""The finished shards of a comparison in a folder, so that an interrupted one can be resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from edgeq.closing import Closing
from edgeq.errors import InputError
from edgeq.files import write_text
from edgeq.work_folders import lock_folder, remove_leftovers

__all__ = ["FinishedShards"]

_SETTINGS = "settings.json"
_LOCK = "lock"


class FinishedShards(Closing):
    """The results of shards in a folder, which is locked.

    ::

        settings.json      what must be equal to resume
        shard-000000.json  the result of a shard
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        """Start in a new folder, or continue with what an earlier run with the same settings left there.

        Args:
            folder: the folder, which is created if needed.
            settings: everything that must be equal, as JSON data, by the name that a message uses.

        Raises:
            InputError: the folder holds other files, or the results of other settings; another process uses it; or it
                cannot be written to.
        """
        self.folder = Path(folder)
        self._refuse_other_files()  # before anything is created here
        self._lock: IO[str] = lock_folder(
            self.folder, _LOCK, "another edgeq compare is using it; wait, or choose another --resume"
        )
        try:
            self._check(settings)
        except BaseException:
            self._lock.close()
            raise

    def _refuse_other_files(self) -> None:
        """Raise an `InputError` if there are files, but none of an earlier run."""
        if not self.folder.is_dir() or (self.folder / _SETTINGS).is_file():
            return
        others = sorted(path.name for path in self.folder.iterdir() if path.name != _LOCK and path.name[0] != ".")
        if others:
            raise InputError(f"{self.folder}: holds files of something else ({others[0]}); choose another --resume")

    def _check(self, settings: dict[str, Any]) -> None:
        path = self.folder / _SETTINGS
        remove_leftovers(self.folder)
        if path.is_file():
            before = _read(path)
            changed = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
            if changed:
                raise InputError(
                    f"{self.folder}: was begun with a different {' and '.join(changed)}; give the same, or choose "
                    "another --resume"
                )
            return
        write_text(path, json.dumps(settings, indent=1) + "\n")

    def read(self, number: int) -> dict[str, Any] | None:
        """Return the result of a shard; None if it is not finished."""
        path = self._path(number)
        return _read(path) if path.is_file() else None

    def damaged(self, number: int) -> InputError:
        """Return the error to raise if the result of a shard is something else."""
        return _damaged(self._path(number))

    def write(self, number: int, result: dict[str, Any]) -> None:
        """Keep the result of a shard.

        Raises:
            InputError: the file cannot be written.
        """
        write_text(self._path(number), json.dumps(result) + "\n")

    def close(self) -> None:
        """Unlock the folder."""
        self._lock.close()

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = None
    if not isinstance(data, dict):
        raise _damaged(path)
    return data


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: is damaged; delete it and run the command again")
