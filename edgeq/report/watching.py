"""What is seen while watching, as one line of text; and what was collected."""

from __future__ import annotations

import shlex
from datetime import datetime

from edgeq.photo_folders import EVALUATION, TRAINING, UNLABELLED
from edgeq.report.tables import table
from edgeq.watching import Collection, Interruption, Observed

__all__ = ["collection_lines", "event_line", "live_line"]

_UNSURE = "(unsure)"


def event_line(seen: Observed | Interruption) -> str:
    """Format a new label, or an interruption, with the local time."""
    clock = datetime.fromtimestamp(seen.time).strftime("%H:%M:%S")
    if isinstance(seen, Interruption):
        return f"{clock}  {seen.reason}; next attempt in {seen.wait_s:.0f} s"
    file = f"  {seen.file}" if seen.file else ""
    return f"{clock}  {seen.probability:6.1%}  {seen.label or _UNSURE}{file}"


def live_line(seen: Observed, width: int) -> str:
    """Format the present state in at most `width` columns."""
    parts = [
        f"{seen.probability:6.1%}  {seen.label or _UNSURE}",
        f"{seen.frames_per_second:.1f} frames/s",
        f"{seen.times_ms['latency']:.0f} ms",
        f"{seen.dropped} dropped",
    ]
    if seen.damaged:
        parts.append(f"{seen.damaged} damaged")
    if seen.temperature_c is not None:
        parts.append(f"{seen.temperature_c:.0f} °C")
    line = "  ".join(parts)
    return line if len(line) <= width else line[: width - 1] + "…"


def collection_lines(found: Collection, width: int) -> list[str]:
    """Format what was collected, what there is of each class, and what to do with it."""
    done = [f"{found.fetched} fetched"]
    done += [f"{found.moved} moved"] if found.moved else []
    done += [f"{found.removed} removed from the source"] if found.removed else []
    lines = [f"{found.folder}: {', '.join(done)}", ""]
    classes = sorted({*found.evaluation, *found.training})
    if classes:
        rows = [(name, str(found.training.get(name, 0)), str(found.evaluation.get(name, 0))) for name in classes]
        lines += [*table([("class", TRAINING, EVALUATION), *rows], width), ""]
    if found.left_out:
        lines.append(f"left out, too close in time to the other side: {found.left_out}")
    lines.append(f"without a label, for calibration and agreement, not for accuracy: {found.unlabelled}")
    folder = {name: shlex.quote(str(found.folder / name)) for name in (EVALUATION, TRAINING, UNLABELLED)}
    commands = []
    if found.unlabelled:
        commands.append(f"edgeq convert MODEL --int8 --calib {folder[UNLABELLED]}")
    if found.evaluation:
        commands.append(f"edgeq compare --data {folder[EVALUATION]}")
    if len(found.training) > 1:
        commands.append(f"edgeq train {folder[TRAINING]} --out mine.keras")
    if commands:
        lines += ["", "Next:", *(f"  {command}" for command in commands)]
    return lines
