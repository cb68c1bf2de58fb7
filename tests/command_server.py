"""Run commands in copies of a process that has imported what they import, which takes longer than most commands.

There are two such processes: one with TensorFlow, and one with edgeq and all else that it imports. Each command runs in
a fork of its own, with its own arguments, folder, environment and files for input and output, as if it were a new
process: only the imports are shared.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
WITH_TENSORFLOW = ("calibrate", "convert", "summary", "train")
READ_AT_IMPORT = ("KERAS_BACKEND", "TF_", "PYTHON", "HOME", "XDG_", "MPL", "PATH", "LD_")  # prefixes of variables


class CommandServer:
    """A process that runs one command after the other.

    Attributes:
        tensorflow: whether it has imported TensorFlow.
    """

    def __init__(self, tensorflow: bool) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "tensorflow" if tensorflow else "edgeq"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def takes(env: dict[str, str]) -> bool:
        """Whether none of the variables of a command would come too late."""
        return not any(name.startswith(READ_AT_IMPORT) for name in env)

    @staticmethod
    def needs_tensorflow(arguments: list[str]) -> bool:
        """Whether a command imports TensorFlow. Its help does not."""
        return arguments[:1] != [] and arguments[0] in WITH_TENSORFLOW and not {"-h", "--help"} & {*arguments}

    def run(
        self, arguments: list[str], cwd: Path | None, env: dict[str, str], stdin: bytes, timeout: float
    ) -> tuple[int, str, str]:
        """Run a command: its exit code, and what it wrote to standard output and standard error."""
        with tempfile.TemporaryDirectory(prefix="edgeq-command-") as name:
            paths = [str(Path(name) / stream) for stream in ("in", "out", "err")]
            Path(paths[0]).write_bytes(stdin)
            variables = {**os.environ, "PYTHONPATH": str(ROOT), **env}
            request = {"arguments": arguments, "cwd": str(cwd or Path.cwd()), "env": variables, "paths": paths}
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            timer = threading.Timer(timeout, self.process.kill)
            timer.start()
            answer = self.process.stdout.readline()
            timer.cancel()
            assert answer, f"the command server died, or the command took more than {timeout:.0f} s"
            return int(answer), Path(paths[1]).read_text(), Path(paths[2]).read_text()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def be_the_command(request: dict[str, Any]) -> NoReturn:
    """Become the command, in a process just forked."""
    os.setsid()
    for number, path in enumerate(request["paths"]):
        descriptor = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if "KERAS_HOME" in os.environ:  # which Keras, too, reads when it loads
        config = vars(sys.modules["keras.src.backend.config"])
        assert "_KERAS_DIR" in config
        config["_KERAS_DIR"] = os.environ["KERAS_HOME"]
    sys.argv = ["edgeq", *request["arguments"]]
    code: Any = 0
    try:
        runpy.run_module("edgeq", run_name="__main__", alter_sys=True)
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def serve() -> None:
    """Load what is slow to load, then run what comes, one JSON object per line."""
    if sys.argv[1] == "tensorflow":
        import keras  # noqa: F401
        import tensorflow as tf  # noqa: F401
    else:
        import click

        import edgeq
        from edgeq.cli import cli
        from edgeq.runtime.backends import import_runtime, installed_runtimes

        for name in edgeq.__all__:
            getattr(edgeq, name)
        for name in cli.list_commands(click.Context(cli)):
            cli.get_command(click.Context(cli), name)
        import_runtime(installed_runtimes()[0])
    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            be_the_command(request)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
