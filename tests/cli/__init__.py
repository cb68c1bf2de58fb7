"""The commands as a user runs them, in processes of their own."""

from __future__ import annotations

from conftest import Finished


def error_of(done: Finished) -> str:
    """The message of a command that failed as it should: exit code 2, one line that says Error, no traceback.

    Wrong usage may print the usage before that line.
    """
    assert done.code == 2, (done.out, done.err)
    lines = done.err.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    assert len(errors) == 1, done.err
    assert "Traceback" not in done.err + done.out
    assert lines == errors or (lines[0].startswith("Usage: ") and lines[-1] == errors[0]), done.err
    return errors[0].removeprefix("Error: ")
