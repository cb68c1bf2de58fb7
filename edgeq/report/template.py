"""Fill in the template of a page. The page contains its style and script, and needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeq.report.provenance import provenance
from edgeq.report.wording import decibels, percent, points, sentence
from edgeq.style import base_style

__all__ = ["WIDTHS", "bare_decibels", "render", "short"]

WIDTHS = (("wide", 860), ("narrow", 340))
"""CSS pixels of a chart, which is there twice, for desktop and phone, as text must not shrink with it."""

_FOLDER = Path(__file__).parent


def short(file: str) -> str:
    """Return a file's name with the name of its folder, which may be its class."""
    path = Path(file)
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def bare_decibels(value: float | None) -> str:
    """Format without the unit, for a column whose heading has it."""
    return decibels(value).removesuffix(" dB")


_SHOWN: dict[str, Callable[[Any], str]] = {
    "percent": percent,
    "points": points,
    "decibels": decibels,
    "sentence": sentence,
    "string": str,
    "short": short,
    "short_name": lambda path: Path(path).name,
    "bare_decibels": bare_decibels,
    "decimals": lambda value: f"{value:.4f}",
    "significant": lambda value: f"{value:.3g}",
}


def render(template: str, document: dict[str, Any], **variables: Any) -> str:
    """Fill in a template.

    Args:
        template: file name of the template in this folder.
        document: the result as JSON data. Each number on the page names its place there.
        variables: the template's own variables, among them `title`, the page's title.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(_SHOWN)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        value=lambda key: _at(document, key),
        exact=lambda key: json.dumps(_at(document, key)),
        provenance=provenance(),
        style=Markup(base_style() + (_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **variables,
    )


def _at(document: Any, key: str) -> Any:
    """Return the value in the JSON at a path such as ``layers.3.sqnr_db``."""
    for step in key.split("."):
        document = document[int(step) if isinstance(document, list | tuple) else step]
    return document
