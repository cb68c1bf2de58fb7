"""What is seen while watching, as one line of text."""

from __future__ import annotations

from datetime import datetime

from edgeq.watching import Interruption, Observed

__all__ = ["event_line", "live_line"]

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
