"""A result as a self-contained HTML page, without a network connection or other files."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.comparison import Comparison, LayerDrift, TensorComparison
from edgeq.errors import EdgeqError
from edgeq.files import write_text
from edgeq.report.pictures import thumbnail
from edgeq.report.plots import histogram_chart, sqnr_chart, ticks_of_grid, worst_alone
from edgeq.report.tables import size
from edgeq.report.template import WIDTHS, bare_decibels, render
from edgeq.report.tensors import tensor_verdict
from edgeq.report.wording import model_names, notes, percent, sentence, verdict

if TYPE_CHECKING:
    from edgeq.sweeping import Sweep

__all__ = ["Confusion", "confusions", "require_packages", "write_report"]

_PACKAGES = ("jinja2", "matplotlib")
_MOST_FLIPS = 60
_MOST_ROWS = 200
_MODEL_ROWS = (
    ("top-1", "top1", percent),
    ("top-5", "top5", percent),
    ("size", "size_bytes", size),
    ("latency, median, one thread", "latency_ms", lambda milliseconds: f"{milliseconds:.2f} ms"),
)
_OUTPUT_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("SQNR, dB", "sqnr_db", bare_decibels),
    ("cosine", "cosine", lambda value: f"{value:.5f}"),
    ("mean difference", "mean_difference", lambda value: f"{value:.3g}"),
    ("max difference", "max_difference", lambda value: f"{value:.3g}"),
    ("error", "error", lambda value: f"{value:.4f}"),
    ("lowest", "low", lambda value: f"{value:.4g}"),
    ("highest", "high", lambda value: f"{value:.4g}"),
)
_LAYER_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("alone, dB", "alone_sqnr_db", bare_decibels),
    ("accumulated, dB", "sqnr_db", bare_decibels),
    ("weights, dB", "weight_sqnr_db", lambda value: "-" if value is None else bare_decibels(value)),
    ("cosine", "cosine", lambda value: f"{value:.4f}"),
    ("gain", "gain", lambda value: f"{value:.3f}"),
    ("mean shift", "mean_shift", percent),
    ("saturated", "saturation", percent),
    ("range used", "range_use", percent),
)


@dataclass(frozen=True)
class Confusion:
    """A pair of classes, one predicted by the reference and another by the candidate for the same images.

    Attributes:
        reference: name of the class that the reference predicts.
        candidate: name of the class that the candidate predicts.
        flips: number of these images.
        reference_right: number of these images for which the reference predicts the true class.
        candidate_right: number of these images for which the candidate predicts the true class.
    """

    reference: str
    candidate: str
    flips: int
    reference_right: int
    candidate_right: int


def write_report(result: Comparison | TensorComparison | Sweep, path: str | Path, command: str | None = None) -> None:
    """Write a comparison or a sweep as an HTML page.

    The file is complete or not written at all. Equal results give identical files on the same machine if the photos
    have not changed.

    Args:
        result: the result to show. The photos of a comparison's flips are read again for thumbnails.
        path: file to write.
        command: command line to show on the page.

    Raises:
        EdgeqError: a required package is not installed.
        InputError: the file cannot be written.
    """
    require_packages()
    if isinstance(result, Comparison | TensorComparison):
        page = _render(result, command)
    else:
        from edgeq.report.sweep_page import render_sweep  # imported here: a sweep imports the whole host half

        page = render_sweep(result, command)
    write_text(Path(path), page)


def require_packages() -> None:
    """Check that the packages for reports are installed, before a long measurement.

    Raises:
        EdgeqError: a required package is not installed.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise EdgeqError(f"a report needs {package}, which is not installed: pip install 'edgeq[convert]'")


def confusions(comparison: Comparison) -> list[Confusion]:
    """Count the pairs of predicted classes among the flips, the most frequent first."""
    pairs = Counter((flip.reference, flip.candidate) for flip in comparison.flips)
    right = Counter((f.reference, f.candidate, f.label) for f in comparison.flips)
    return [
        Confusion(was, now, flips, right[was, now, was], right[was, now, now])
        for (was, now), flips in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]


def _render(comparison: Comparison | TensorComparison, command: str | None) -> str:
    from markupsafe import Markup

    reference, candidate = model_names(comparison)
    layers = comparison.layers or ()
    template, particular = _particular(comparison)
    return render(
        template,
        comparison.to_json(),
        title=f"Drift of {Path(comparison.candidate.path).name}",
        c=comparison,
        command=command,
        layer_columns=_LAYER_COLUMNS,
        reference_name=reference,
        candidate_name=candidate,
        worst=worst_alone(layers),
        charts=[(kind, Markup(sqnr_chart(layers, f"sqnr-{kind}", width))) for kind, width in WIDTHS if layers],
        histograms=_histograms(layers, Markup),
        **particular,
    )


def _particular(comparison: Comparison | TensorComparison) -> tuple[str, dict[str, Any]]:
    """Return the template for this kind of comparison, and the variables that only it uses."""
    if isinstance(comparison, TensorComparison):
        return "tensors.html.jinja", {
            "model_rows": [row for row in _MODEL_ROWS if not row[1].startswith("top")],
            "output_columns": _OUTPUT_COLUMNS,
            "worst_samples": comparison.worst[:_MOST_ROWS],
            "verdict": sentence(tensor_verdict(comparison)),
            "notes": comparison.notes,
        }
    pairs = confusions(comparison)
    return "page.html.jinja", {
        "model_rows": _MODEL_ROWS,
        "verdict": verdict(comparison).replace(" %", "\N{NO-BREAK SPACE}%"),
        "notes": notes(comparison),
        "flips": [(flip, thumbnail(flip.file)) for flip in comparison.flips[:_MOST_FLIPS]],
        "classes": comparison.classes[:_MOST_ROWS],
        "confusions": pairs[:_MOST_ROWS],
        "pairs": len(pairs),
    }


def _histograms(layers: tuple[LayerDrift, ...], markup: Callable[[str], Any]) -> list[tuple[LayerDrift, Any, int]]:
    """Return the layers that have a histogram, each with its chart and the number of grid steps per tick."""
    found = []
    for layer in layers:
        if layer.histogram is not None:
            title = f"Distribution of the activations of operator {layer.index}, {layer.operator}"
            chart = histogram_chart(layer.histogram, f"histogram-{layer.index}", title)
            found.append((layer, markup(chart), ticks_of_grid(layer.histogram)[1]))
    return found
