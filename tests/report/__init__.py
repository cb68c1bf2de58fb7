"""What tests of pages read from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Open = Callable[..., Any]
"""Opens a page in a browser: the fixture `look`."""


def numbers_on(view: Any) -> dict[str, Any]:
    """Where each number of a page stands in the JSON, and its exact value."""
    texts = view.evaluate("[...document.querySelectorAll('[data-key]')].map(e => [e.dataset.key, e.dataset.value])")
    return {key: json.loads(text) for key, text in texts}


def leaves(document: Any, key: str = "") -> dict[str, Any]:
    """Every number and null of a JSON document by its place."""
    if isinstance(document, dict):
        inner = document.items()
    elif isinstance(document, list):
        inner = enumerate(document)  # type: ignore[assignment]
    else:
        return {} if isinstance(document, str) else {key: document}
    return {place: leaf for name, value in inner for place, leaf in leaves(value, f"{key}.{name}".strip(".")).items()}


def column(view: Any, table: str, number: int) -> list[str]:
    return view.locator(f"{table} tbody tr > :nth-child({number})").all_inner_texts()
