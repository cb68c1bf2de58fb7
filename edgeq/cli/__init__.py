"""The command line: each command parses its options, calls the library, prints what it returns, and exits."""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import click

import edgeq
from edgeq.cli.output import complain
from edgeq.errors import EXIT_ERROR, EdgeqError

__all__ = ["cli", "main"]

_NAMES = (
    *("convert", "refine", "infer", "compare", "bench", "bundle"),
    *("inspect", "train", "summary", "calibrate", "device"),
)
_COMMANDS = {name: f"edgeq.cli.{name}" for name in _NAMES}
_EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_EXIT_TERMINATED = 143  # 128 + SIGTERM
_INSIST_SECONDS = 1.0  # long enough for cleaning up
_EXIT_PIPE_CLOSED = 141  # 128 + SIGPIPE


class _LazyGroup(click.Group):
    """Imports a command's module when that command is used, so that none pays for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        # Importing makes a hundred thousand objects that live as long as the process. Not to look among them
        # for garbage, now or at exit, saves 20 of the 140 ms that `edgeq infer` takes.
        gc.disable()
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name]).command
        gc.freeze()
        gc.enable()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # a reader that has seen enough, as in `edgeq infer photos/ | head`
            # Python flushes stdout once more at exit, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_EXIT_PIPE_CLOSED)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(edgeq.__version__, "--version", prog_name="edgeq")
def cli() -> None:
    """Quantize image classifiers to INT8 TFLite models, run them, and measure how far they drifted.

    \b
    Examples:
      edgeq convert --res 160 --int8          MobileNetV2 with ImageNet's weights, FP32 and INT8
      edgeq infer photo.jpg --model m.tflite  what is on the photo
      edgeq compare --data photos/            how far INT8 drifted from FP32 on these photos
      edgeq inspect m.tflite                  what is inside a model, and where it would not run
      edgeq train photos/ --out mine.keras    a network that tells your own classes apart

    Exit codes: 0 done, 1 a limit of `edgeq compare` or a target of `edgeq inspect` was missed, 2 anything that
    went wrong.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit; the only place where errors become exit codes."""
    signal.signal(signal.SIGTERM, _stop)  # so that temporary files are cleaned up
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _stop)
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what the terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code: Any = cli.main(arguments, prog_name="edgeq", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = EXIT_ERROR
    except EdgeqError as error:
        complain(error)
        code = EXIT_ERROR
    except SystemExit:
        _stop_insisting()
        raise
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = _EXIT_INTERRUPTED
    except MemoryError:
        complain("not enough memory for this; try a smaller size")
        code = EXIT_ERROR
    except Exception as error:  # a gate in CI must not take it for drift, which is 1
        if isinstance(error, OSError) and error.filename is not None:  # a file that vanished, or may not be read
            complain(f"{os.fsdecode(error.filename)}: {error.strerror}")
        else:  # a bug of ours
            traceback.print_exc()
        code = EXIT_ERROR
    _stop_insisting()
    gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


def _stop(signal_number: int, frame: Any) -> NoReturn:
    """Raise what a signal means, and again every second until `main` has caught it.

    Native modules that are being imported swallow exceptions now and then. A command that was interrupted just
    then would go on, and replace files.
    """
    signal.signal(signal.SIGALRM, lambda *_: _stop(signal_number, frame))
    signal.setitimer(signal.ITIMER_REAL, _INSIST_SECONDS)
    if signal_number == signal.SIGTERM:
        sys.exit(_EXIT_TERMINATED)
    raise KeyboardInterrupt


def _stop_insisting() -> None:
    """Do not raise a signal again that `main` has caught."""
    signal.setitimer(signal.ITIMER_REAL, 0)
