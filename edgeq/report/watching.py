"""What is seen while watching, as one line of text."""

from __future__ import annotations

from datetime import datetime

from edgeq.watching import Interruption, Observed
from edgeq.watching.deviation import Deviation

__all__ = ["deviation_line", "event_line", "live_line"]

_UNSURE = "(unsure)"


def event_line(seen: Observed | Interruption) -> str:
    """Format a new label, or an interruption, with the local time."""
    clock = _clock(seen.time)
    if isinstance(seen, Interruption):
        return f"{clock}  {seen.reason}; next attempt in {seen.wait_s:.0f} s"
    file = f"  {seen.file}" if seen.file else ""
    return f"{clock}  {seen.probability:6.1%}  {seen.label or _UNSURE}{file}"


def deviation_line(found: Deviation | None, time: float) -> str:
    """Format that what the camera sees has become unlike the photos, or that it no longer is, with the local time."""
    return f"{_clock(time)}  {found.reason if found else 'What the camera sees is no longer unlike the photos.'}"


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time).strftime("%H:%M:%S")


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
