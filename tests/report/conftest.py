"""Opening a page in the browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report import Open


@pytest.fixture
def look(browser: Any) -> Iterator[Open]:
    """Open a page; at the end it must have been content with itself, and have asked for nothing else."""
    opened: list[tuple[Any, Path]] = []
    complaints: list[str] = []
    asked: list[str] = []

    def dismiss(dialog: Any) -> None:
        complaints.append(dialog.message)
        dialog.dismiss()

    def look(path: Path, **options: Any) -> Any:
        view = browser.new_context(**options).new_page()
        view.on("console", lambda message: complaints.append(message.text))
        view.on("pageerror", lambda error: complaints.append(str(error)))
        view.on("dialog", dismiss)
        view.on("request", lambda request: asked.append(request.url))
        view.goto(path.as_uri())
        opened.append((view, path))
        return view

    yield look
    for view, _ in opened:
        view.context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri() for _, path in opened]
