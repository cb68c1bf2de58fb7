"""Showing what was found: comparisons as text or a page, models, benchmarks.

Names are loaded when they are first used, as `edgeq bench` on a device needs little of this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.report.markdown import write_markdown
    from edgeq.report.page import write_report
    from edgeq.report.tables import size
    from edgeq.report.terminal import comparison_lines

__all__ = ["comparison_lines", "size", "write_markdown", "write_report"]

_HOMES = {
    "comparison_lines": "terminal",
    "size": "tables",
    "write_markdown": "markdown",
    "write_report": "page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeq.report' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgeq.report.{_HOMES[name]}"), name)
