"""What the tests of several commands share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Finished

from edgeq.cli import main

Run = Callable[..., Finished]


@pytest.fixture
def edgeq_here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """As the fixture `edgeq`, but within this process, which has TensorFlow already: it takes seconds to load."""
    terminate = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object, cwd: Path | None = None) -> Finished:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([*map(str, arguments)])
        assert isinstance(exit_.value.code, int)
        return Finished(exit_.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, terminate)
