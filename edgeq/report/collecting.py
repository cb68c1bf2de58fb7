"""What was collected, as text."""

from __future__ import annotations

import shlex

from edgeq.collecting import Collection
from edgeq.photo_folders import EVALUATION, TRAINING, UNLABELLED
from edgeq.report.tables import table

__all__ = ["collection_lines"]


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
