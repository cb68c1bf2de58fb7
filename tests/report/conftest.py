"""A browser without a window, in which tests look at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report import Open

SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install 'edgeq[dev]')")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on the PATH")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=SWITCHES)
        yield started
        started.close()


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
