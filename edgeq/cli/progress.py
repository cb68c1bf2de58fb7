"""Progress bars on a terminal; nothing if the output is piped."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

__all__ = ["Progress"]


class Progress:
    """Progress bars, one stage after the other, for ``with Progress() as progress``.

    The library calls the object. It writes to duplicates of stderr and stdout, which work while native libraries are
    silenced.
    """

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(2), "w") if sys.stderr and sys.stderr.isatty() else None
        self._lines = os.fdopen(os.dup(1), "w") if sys.stdout else None  # None if the caller has closed it
        self._stage: str | None = None
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of the `total` steps of `stage` are finished."""
        if self._stream is None:
            return
        if stage != self._stage:
            self._finish()
            self._stage = stage
            self._bar = click.progressbar(length=total, label=f"{stage:<28}", file=self._stream)
            self._bar.render_progress()
        self._bar.update(done - self._bar.pos)

    def line(self, text: str) -> None:
        """Print a line on stdout above the next bar."""
        self._finish()
        self._stage = self._bar = None
        if self._lines is not None:
            click.echo(text, file=self._lines)

    @contextlib.contextmanager
    def printing(self, logger: str) -> Iterator[None]:
        """Print each message that a package logs within the block, see `line`."""
        log, handler = logging.getLogger(logger), logging.Handler()
        level = log.level
        handler.emit = lambda record: self.line(record.getMessage())  # type: ignore[method-assign]
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._stream is not None:
            self._finish(completed=kind is None)
            self._stream.close()
        if self._lines is not None:
            self._lines.close()

    def _finish(self, completed: bool = True) -> None:
        if self._bar is not None:
            if completed:
                self._bar.update(self._bar.length - self._bar.pos)
            self._bar.render_finish()
