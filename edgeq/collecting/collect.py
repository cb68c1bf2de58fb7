"""Collect kept photos from a board or a folder, and sort them by what a person said of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeq.collecting.kept import KeptPhoto, write_synced
from edgeq.collecting.photo_sources import open_photos
from edgeq.collecting.splitting import check_share, side_of
from edgeq.errors import InputError
from edgeq.files import replacing, sha256_of_file, write_text
from edgeq.images import is_image
from edgeq.photo_folders import EVALUATION, LEFT_OUT, RECORDS, TRAINING, UNLABELLED, class_folder
from edgeq.progress import Progress, no_progress
from edgeq.work_folders import lock_folder, remove_leftovers

__all__ = ["Collection", "collect"]

_LOCK, _SETTINGS = "lock", "settings.json"
_DEFAULT_SHARE = 0.2


@dataclass(frozen=True)
class Collection:
    """What was collected, and what the folder contains now.

    Attributes:
        folder: the folder that the photos were sorted into.
        fetched: number of photos that were fetched.
        moved: number of photos that changed their folder, because a person has labelled them since.
        removed: number of photos that were removed from the source.
        evaluation: number of labelled photos for evaluation, by class folder.
        training: number of labelled photos for training, by class folder.
        left_out: number of labelled photos too close in time to the other side.
        unlabelled: number of photos without a person's label.
        problems: photos that could not be collected, each with the reason.
    """

    folder: Path
    fetched: int
    moved: int
    removed: int
    evaluation: dict[str, int]
    training: dict[str, int]
    left_out: int
    unlabelled: int
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data."""
        return asdict(self) | {"folder": str(self.folder)}


def collect(
    source: str | Path,
    out: str | Path,
    *,
    evaluation: float | None = None,
    remove: bool = False,
    progress: Progress = no_progress,
) -> Collection:
    """Fetch the kept photos that are new, and sort them into folders.

    Photos that a person labelled go to ``evaluation/CLASS`` and ``training/CLASS``, split by time, see
    :mod:`edgeq.collecting.splitting`. All others go to ``unlabelled``. A photo that was fetched once is not fetched
    again, even if it was moved or deleted. If a person labels it on the board later, it moves from ``unlabelled`` to
    its class. An interrupted call can be repeated, and continues where it stopped.

    Args:
        source: a folder that `Keeper` writes to, or ``[user@]host[:port]:folder`` for one on a board.
        out: the folder to sort into; it must be new, empty, or from an earlier call.
        evaluation: share of the time blocks for evaluation, in [0, 1]; None for that of the earlier call, else 0.2.
        remove: whether to remove the photos from the source, once they are safely here.
        progress: called with ("Collecting photos", done, total).

    Raises:
        InputError: `source` is not a folder, `out` contains other files or was split with another share, or cannot be
            written to.
        DeviceError: the board cannot be reached.
    """
    root = Path(out)
    _require_collection(root)
    share = _agreed_share(root, evaluation)
    records = root / RECORDS
    with open_photos(source, progress) as photos:
        digests = photos.digests()  # before anything is created here
        with lock_folder(records, _LOCK, "another process is collecting photos into it"):
            remove_leftovers(records)
            sorter = _Sorter(root, share)
            write_text(records / _SETTINGS, json.dumps({"evaluation": share}) + "\n")
            changed = [name for name, digest in digests.items() if sorter.digest(name) != digest]
            for done, (name, content) in enumerate(photos.read([f"{name}.json" for name in changed])):
                progress("Reading records", done, len(changed))
                if content is not None:
                    sorter.take_record(Path(name).stem, content)
            for done, (name, content) in enumerate(photos.read([f"{name}.jpg" for name in sorter.new])):
                progress("Collecting photos", done, len(sorter.new))
                sorter.take_photo(Path(name).stem, content)
            safe = {name: digest for name, digest in digests.items() if sorter.digest(name) == digest}
            removed = photos.remove(safe) if remove and safe else 0
    return Collection(
        folder=root,
        fetched=sorter.fetched,
        moved=sorter.moved,
        removed=removed,
        evaluation=_by_class(root / EVALUATION),
        training=_by_class(root / TRAINING),
        left_out=sum(_by_class(root / LEFT_OUT).values()),
        unlabelled=sum(is_image(path) for path in _visible(root / UNLABELLED)),
        problems=tuple(sorter.problems),
    )


class _Sorter:
    """Puts photos into their folders.

    Attributes:
        new: records of the photos to fetch, by name.
        fetched: number of photos that were fetched.
        moved: number of photos that were moved.
        problems: what could not be collected.
    """

    def __init__(self, root: Path, share: float) -> None:
        self.new: dict[str, bytes] = {}
        self.fetched = self.moved = 0
        self.problems: list[str] = []
        self._root, self._share = root, share

    def digest(self, name: str) -> str | None:
        """Return the digest of the record of a photo that was collected; None for others."""
        path = self._record(name)
        return sha256_of_file(path) if path.exists() else None

    def take_record(self, name: str, content: bytes) -> None:
        """Take a record that is new or has changed: the photo is to be fetched, or may have to move."""
        try:
            photo = KeptPhoto.from_bytes(content)
        except ValueError as error:
            self.problems.append(f"{name}.json: is damaged ({error})")
            return
        if not self._record(name).exists():
            self.new[name] = content
            return
        try:
            earlier = KeptPhoto.from_bytes(self._record(name).read_bytes())
        except ValueError as error:
            self.problems.append(f"{self._record(name)}: is damaged ({error}); delete it to collect the photo again")
            return
        if earlier.sha256 != photo.sha256:
            self.problems.append(f"{name}.jpg: another photo of this name was collected before")
            return
        before, after = self._place(name, earlier), self._place(name, photo)
        if before != after and before.exists():  # else a person has moved or deleted it
            after.parent.mkdir(parents=True, exist_ok=True)
            before.rename(after)
            self.moved += 1
        with replacing([self._record(name)]) as (new,):
            write_synced(new, content)

    def take_photo(self, name: str, content: bytes | None) -> None:
        """Write a photo that was fetched, and its record, both or none."""
        photo = KeptPhoto.from_bytes(self.new[name])
        if content is None:
            return  # it was removed to make room
        if hashlib.sha256(content).hexdigest() != photo.sha256:
            self.problems.append(f"{name}.jpg: is damaged")
            return
        with replacing([self._place(name, photo), self._record(name)]) as (new_photo, new_record):
            write_synced(new_photo, content)
            write_synced(new_record, self.new[name])
        self.fetched += 1

    def _record(self, name: str) -> Path:
        return self._root / RECORDS / f"{name}.json"

    def _place(self, name: str, photo: KeptPhoto) -> Path:
        if photo.label is None:
            return self._root / UNLABELLED / f"{name}.jpg"
        return self._root / side_of(photo.time, self._share) / class_folder(photo.label) / f"{name}.jpg"


def _require_collection(root: Path) -> None:
    """Raise an `InputError` if a folder has files, but not from an earlier call."""
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: is a file; give a folder for the photos")
    if root.is_dir() and not (root / RECORDS).is_dir() and any(_visible(root)):
        raise InputError(f"{root}: holds files that edgeq did not collect; give a new or an empty folder")


def _agreed_share(root: Path, share: float | None) -> float:
    """Return the share for evaluation, which is that of earlier calls.

    Raises:
        InputError: it is not in [0, 1], another one was used before, or it is unknown what was used before.
    """
    if share is not None:
        check_share(share)
    settings = root / RECORDS / _SETTINGS
    try:
        before = float(json.loads(settings.read_text("utf-8"))["evaluation"])
    except FileNotFoundError:
        return _DEFAULT_SHARE if share is None else share
    except (OSError, ValueError, KeyError, TypeError):  # a guess could put photos of one moment on both sides
        raise InputError(f'{settings}: is damaged; write {{"evaluation": SHARE}} with the share of before') from None
    if share not in (None, before):
        raise InputError(f"{root}: its photos were split with evaluation {before:g}; give the same, or another folder")
    return before


def _by_class(folder: Path) -> dict[str, int]:
    counts = {path.name: Counter(map(is_image, _visible(path)))[True] for path in _visible(folder) if path.is_dir()}
    return {name: count for name, count in sorted(counts.items()) if count}


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if not path.name.startswith("."))
