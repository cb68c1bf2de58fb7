"""A temporary folder of its own for a command whose libraries leave files behind when they are killed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from edgeq.files import temporary_folder

__all__ = ["own_temporary_folder"]


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Make this process and those that it starts put their temporary files into one folder; a decorator of commands.

    Keras, for example, unpacks networks there. The next command removes what a killed one has left.

    Raises:
        InputError: the system's temporary folder cannot be written to.
    """
    with temporary_folder() as folder:
        variable, default = os.environ.get("TMPDIR"), tempfile.tempdir
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = default
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable
