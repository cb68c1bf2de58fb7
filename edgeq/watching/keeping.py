"""Keep frames that are worth a label: unsure ones, one now and then, new labels, and those that a person chooses."""

from __future__ import annotations

import hashlib
from collections import deque
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgeq.closing import Closing
from edgeq.collecting.kept import KeptPhoto
from edgeq.collecting.photo_folder import PhotoFolder
from edgeq.errors import EdgeqError, InputError
from edgeq.watching.likeness import MOST_ALIKE_BITS, difference_hash, distance
from edgeq.watching.model_file import model_digest
from edgeq.watching.observed import Interruption, Observed
from edgeq.watching.picture import jpeg_bytes

if TYPE_CHECKING:
    from edgeq.runtime import Model

__all__ = ["Keeper"]

_COMPARED = 20  # the latest kept photos, with which a frame is compared
_REMEMBERED = 100  # the latest kept photos, which are recognized when a person labels their frame
_BETWEEN_UNSURE_S = 1.0  # a passing object gives many unsure frames
_PAUSE_S = 10.0  # how long to wait for room
_LONGEST_LABEL = 200  # characters


class Keeper(Closing):
    """Keeps frames in a folder, each as a JPEG with a record, within a limit. Several threads may use it.

    `offer` keeps a frame if a rule says so, and if it differs from the latest kept ones. `keep` always keeps it.
    When the folder reaches its limit, the oldest photos without a person's label are removed. Labelled ones never are.
    What the folder already contains counts.

    Attributes:
        folder: the folder.
        paused: why `offer` keeps nothing at present, as a sentence without a full stop; None if it does.
        kept: number of photos that this object has kept.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str | Path | Model,
        *,
        source: str = "",
        model_name: str | None = None,
        below: float | None = None,
        every_s: float | None = None,
        changed: bool = False,
        limit_bytes: int = 1_000_000_000,
        free_bytes: int = 500_000_000,
    ) -> None:
        """Open a folder, which is created if needed, and clean up after a process that was killed.

        Args:
            folder: the folder; only one `Keeper` at a time may use it.
            model: the model that classifies the frames, or its file.
            source: the name of the source, for the records; a user name and password in a URL are left out.
            model_name: the model's name in the records; None for that of its file.
            below: keep frames whose smoothed probability is below this, at most one per second.
            every_s: keep one frame in this many seconds.
            changed: keep frames with a new label.
            limit_bytes: most bytes that the folder's photos and records may take.
            free_bytes: bytes of the disk that stay free.

        Raises:
            InputError: a value is out of its range, another process uses the folder, or it cannot be written to.
        """
        if below is not None and not 0 <= below <= 1:
            raise InputError(f"below {below}: must be in 0..1")
        if every_s is not None and not every_s > 0:
            raise InputError(f"every {every_s}: must be above 0 seconds")
        self._below, self._every_s, self._changed = below, every_s, changed
        if source and Path(source).is_dir() and Path(source).resolve() == Path(folder).resolve():
            raise InputError(f"{folder}: is the watched folder; keep photos in another one")
        path = Path(model) if isinstance(model, str | Path) else model.path
        self._source = _without_login(source)
        self._model = {"name": path.name if model_name is None else model_name, "sha256": model_digest(model)}
        self.folder = Path(folder)
        self.paused: str | None = None
        self.kept = 0
        self._photos = PhotoFolder(self.folder, limit_bytes, free_bytes)
        self._turn = RLock()
        self._paused_from = 0.0
        self._kept_from: dict[str, float] = {}  # when each rule last wanted a frame
        latest = list(islice(self._photos.records(), _COMPARED))
        self._hashes = deque((int(record.hash, 16) for record in reversed(latest)), _COMPARED)
        if times := [record.time for record in latest if "every" in record.reasons]:
            self._kept_from["every"] = max(times)
        self._latest: deque[tuple[tuple[float, int], Path]] = deque(maxlen=_REMEMBERED)

    def close(self) -> None:
        """Let other processes use the folder."""
        self._photos.close()

    @property
    def size_bytes(self) -> int:
        """The size of all photos in the folder with their records."""
        return self._photos.size_bytes

    def offer(self, seen: Observed | Interruption) -> Path | None:
        """Keep a frame if a rule says so, it differs from the latest kept ones, and there is room.

        Nothing that goes wrong with the folder or the disk is raised: `paused` then says why, and the next attempts
        follow 10 s apart.

        Args:
            seen: what `edgeq.watch` yields.

        Returns:
            The photo's path if it was kept, else None.
        """
        if isinstance(seen, Interruption):
            return None
        with self._turn:
            if self.paused is not None and not _is_due(self._paused_from, seen.time, _PAUSE_S):
                return None
            before = self._kept_from
            reasons = self._reasons(seen)
            frame = self._different(seen) if reasons else None
            if frame is None:
                return None
            try:
                photo = self._store(seen, *frame, reasons)
            except EdgeqError as error:
                self.paused, self._paused_from, self._kept_from = str(error), seen.time, before
                return None
            self.paused = None
            return photo

    def keep(self, seen: Observed, label: str | None = None, by: str = "a person") -> Path:
        """Keep a frame because a person wants it, even if it resembles others.

        If the frame is kept already, only its label is recorded.

        Args:
            seen: the frame.
            label: the right label, which the person confirmed or gave; None if the person did not say.
            by: who the person is, for the record.

        Returns:
            The photo's path.

        Raises:
            EdgeqError: the label is empty or not one line, there is no room, or the frame cannot be read.
        """
        if label is not None:
            _check_label(label)
        with self._turn:
            for key, photo in self._latest:
                if key == (seen.time, seen.frame) and photo.exists():
                    return photo if label is None else self._photos.confirm(photo.stem, label, by)
            jpeg = jpeg_bytes(seen.image)
            return self._store(seen, jpeg, difference_hash(jpeg), ["by hand"], label, by)

    def confirm(self, photo: str | Path, label: str, by: str = "a person") -> Path:
        """Record the label that a person confirmed or gave for a photo that is kept already.

        Args:
            photo: the photo's path or file name.
            label: the right label.
            by: who the person is, for the record.

        Returns:
            The photo's path.

        Raises:
            EdgeqError: the label is empty or not one line, there is no such photo, or the disk is full.
        """
        _check_label(label)
        with self._turn:
            return self._photos.confirm(Path(photo).stem, label, by)

    def _reasons(self, seen: Observed) -> list[str]:
        """Return the rules that want the frame, and start their waiting times anew."""
        wanted = {
            "below": self._below is not None
            and seen.probability < self._below
            and _is_due(self._kept_from.get("below"), seen.time, _BETWEEN_UNSURE_S),
            "every": self._every_s is not None and _is_due(self._kept_from.get("every"), seen.time, self._every_s),
            "changed": self._changed and seen.changed,
        }
        reasons = [rule for rule, wants in wanted.items() if wants]
        self._kept_from = self._kept_from | dict.fromkeys(reasons, seen.time)
        return reasons

    def _different(self, seen: Observed) -> tuple[bytes, int] | None:
        """Return the frame as a JPEG, and its hash; None if it resembles one of the latest kept photos."""
        try:
            jpeg = jpeg_bytes(seen.image)
            content_hash = difference_hash(jpeg)
        except EdgeqError:  # the photo of a folder was moved away
            return None
        if any(distance(content_hash, other) <= MOST_ALIKE_BITS for other in self._hashes):
            return None
        return jpeg, content_hash

    def _store(
        self,
        seen: Observed,
        jpeg: bytes,
        content_hash: int,
        reasons: list[str],
        label: str | None = None,
        by: str | None = None,
    ) -> Path:
        record = KeptPhoto(
            time=seen.time,
            sha256=hashlib.sha256(jpeg).hexdigest(),
            label=label,
            confirmed_by=by if label is not None else None,
            reasons=tuple(reasons),
            seen=seen.label,
            probability=seen.probability,
            predictions=tuple(vars(prediction) for prediction in seen.predictions),
            source=self._source,
            frame=seen.frame,
            model=self._model,
            hash=f"{content_hash:016x}",
        )
        photo = self._photos.add(jpeg, record)
        self.kept += 1
        self._hashes.append(content_hash)
        self._latest.append(((seen.time, seen.frame), photo))
        return photo


def _is_due(last: float | None, now: float, wait_s: float) -> bool:
    """Return whether the time has passed; the clock may have been set back."""
    return last is None or not 0 <= now - last < wait_s


def _check_label(label: str) -> None:
    """Raise an `InputError` if a label is not one short line of text."""
    if label.splitlines() != [label.strip()] or len(label) > _LONGEST_LABEL:
        raise InputError(f"label {label[:_LONGEST_LABEL]!r}: must be one line of at most {_LONGEST_LABEL} characters")


def _without_login(source: str) -> str:
    parts = urlsplit(source) if "://" in source else None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts else source
