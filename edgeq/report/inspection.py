"""The contents of a model and its support by targets, as text for the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from edgeq.inspection import Inspection, Port, TargetReport
from edgeq.report.tables import size, table

__all__ = ["inspection_lines", "target_lines"]

_FEW = 100_000  # multiply-adds up to which the exact number is shown


def inspection_lines(inspection: Inspection, width: int | None = None) -> list[str]:
    """Format a model's inputs, outputs, operators, costs, provenance and targets.

    Args:
        inspection: the result to show.
        width: terminal width in characters; None reads it from the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    i = inspection
    rows: list[tuple[str, ...]] = [("", "name", "shape", "type", "scale", "zero point", "real range")]
    rows += [_port("input", port) for port in i.inputs] + [_port("output", port) for port in i.outputs]
    lines = [f"{i.path}  {size(i.size_bytes)}  sha256 {i.sha256[:16]}", "", *table(rows, width), ""]
    heading = ("operator", "version", "type", "count", "parameters", "mult-adds")
    kinds = [
        (g.name, str(g.version), g.types, str(g.count), _number(g.parameters), _millions(g.multiply_adds))
        for g in i.operators
    ]
    total = ("total", "", "", str(sum(g.count for g in i.operators)), _number(i.parameters), _millions(i.multiply_adds))
    lines += [*table([heading, *kinds, total], width), ""]
    for fact in _facts(i):
        lines += textwrap.wrap(fact, width, subsequent_indent="  ", break_long_words=False)
    for report in i.targets:
        lines += ["", *target_lines(report, width)]
    return lines


def target_lines(report: TargetReport, width: int | None = None) -> list[str]:
    """List everything in a model that a target does not support; `width` as in `inspection_lines`."""
    width = width or shutil.get_terminal_size().columns
    if not report.obstacles:
        lines = [f"{report.target}: no known problem"]
    else:
        lines = textwrap.wrap(f"{report.target}: {report.consequence}, because of", width, subsequent_indent="  ")
        for obstacle in report.obstacles:
            times = f" ({obstacle.count} times)" if obstacle.count > 1 else ""
            text = f"{obstacle.operator or 'the model'}{times}: {obstacle.reason}"
            lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
    return lines + textwrap.wrap(
        f"Source: {report.source}.", width, initial_indent="  ", subsequent_indent="    ", break_long_words=False
    )


def _facts(i: Inspection) -> list[str]:
    """State the facts that the tables do not show, one per line."""
    floats = [g.name for g in i.operators if "float" in g.types]
    facts = ["Full integer: all activations, including inputs and outputs." if i.full_integer else _float_fact(floats)]
    facts.append(f"Peak memory of the activations: at least {size(i.peak_activation_bytes)}.")
    if i.subgraphs > 1:
        facts.append(f"Not counted: {i.subgraphs - 1} further graphs (loops and branches).")
    if i.labels:
        first = ", ".join(i.labels[:3]) + (", ..." if len(i.labels) > 3 else "")
        facts.append(f"{len(i.labels)} labels: {first}")
    if i.preprocessing:
        p = i.preprocessing
        numbers = [",".join(f"{v:g}" for v in p[key]) for key in ("mean", "std")]
        facts.append(
            f"Preprocessing: {p['width']}x{p['height']} {p['channels']}, center crop of {100 * p['crop']:g} %, "
            f"normalized as (pixel - {numbers[0]}) / {numbers[1]}."
        )
    if not i.provenance:
        facts.append("The file has no provenance.")
    for name, value in i.provenance.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value))  # noqa: PLW2901
        items = value.items() if isinstance(value, dict) else ()
        text = ", ".join(f"{key} {item}" for key, item in items if not isinstance(item, list | dict)) or value
        facts.append(f"{name.replace('_', ' ')}: {text}")
    return facts


def _float_fact(floats: Sequence[str]) -> str:
    names = ", ".join(dict.fromkeys(floats))
    return f"Not full integer: {names or 'an input or output'} {'use' if len(set(floats)) > 1 else 'uses'} floats."


def _port(kind: str, port: Port) -> tuple[str, ...]:
    per_channel = len(port.scale) > 1
    low, high = port.real_range or (0.0, 0.0)
    return (
        kind,
        port.name,
        "x".join("?" if side < 0 else str(side) for side in port.shape) or "scalar",
        port.dtype,
        "per channel" if per_channel else f"{port.scale[0]:.6g}" if port.scale else "-",
        "per channel" if per_channel else str(port.zero_point[0]) if port.scale else "-",
        f"{low:.4g} to {high:.4g}" if port.real_range else "-",
    )


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"


def _millions(multiply_adds: int) -> str:
    return f"{multiply_adds / 1e6:.1f} M" if multiply_adds >= _FEW else _number(multiply_adds)
