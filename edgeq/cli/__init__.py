"""The command line. Each command is a thin module that calls the library, prints the result and exits."""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

import edgeq
from edgeq.cli.output import complain, discard_output
from edgeq.errors import EXIT_ERROR, EdgeqError

__all__ = ["cli", "main"]

_GROUPS = {
    "Make a model": ("convert", "refine", "train", "sweep", "calibrate", "summary"),
    "Run and measure it": ("infer", "watch", "collect", "compare", "bench", "inspect"),
    "Deploy it": ("device", "bundle"),
}
_COMMANDS = {name: f"edgeq.cli.{name}" for names in _GROUPS.values() for name in names}
_EXIT_INTERRUPTED = 130  # 128 + SIGINT, the convention of shells
_EXIT_TERMINATED = 143  # 128 + SIGTERM
_RAISE_AGAIN_SECONDS = 1.0  # long enough for cleaning up
_EXIT_PIPE_CLOSED = 141  # 128 + SIGPIPE


class _LazyGroup(click.Group):
    """Import a command's module only when that command is used, to start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        # Importing creates about a hundred thousand objects that live as long as the process. If the garbage
        # collector skips them, now and at exit, `edgeq infer` takes 120 ms instead of 140.
        gc.disable()
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name]).command
        gc.freeze()
        gc.enable()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in groups, each with the first sentence of its help."""
        width = max(map(len, _COMMANDS))
        for heading, names in _GROUPS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl([(n.ljust(width), c.get_short_help_str(formatter.width)) for n, c in found if c])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            discard_output()
            ctx.exit(_EXIT_PIPE_CLOSED)


_EPILOG = """\b
Exit codes:
  0  success
  1  `edgeq compare`: a limit is missed; --target: the file is not supported
  2  error

For a command's options and examples: edgeq COMMAND --help
"""


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(edgeq.__version__, "--version", prog_name="edgeq")
def cli() -> None:
    """Quantize image classifiers to INT8 TFLite models, run them and measure their drift.

    \b
    Examples:
      $ edgeq convert --res 224 --int8           # MobileNetV2: FP32 and INT8
      $ edgeq infer photo.jpg --model m.tflite   # classify a photo
      $ edgeq compare --data photos/             # measure the loss of accuracy
      $ edgeq inspect m.tflite                   # show what a file contains
      $ edgeq train photos/ --out mine.keras     # train on your own classes
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit. Only this function turns errors into exit codes."""
    signal.signal(signal.SIGTERM, _stop)  # to clean up temporary files
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # unless a shell ignores it
        signal.signal(signal.SIGINT, _stop)
    for stream in (sys.stdout, sys.stderr):  # a file name may contain characters that the terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # an image that cannot be read is an error of its own
    try:
        code: Any = cli.main(arguments, prog_name="edgeq", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = EXIT_ERROR
    except EdgeqError as error:
        complain(error)
        code = EXIT_ERROR
    except SystemExit:
        _stop_raising()
        raise
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = _EXIT_INTERRUPTED
    except MemoryError:
        complain("not enough memory; try a smaller --res or --batch, or fewer images")
        code = EXIT_ERROR
    except Exception as error:  # exit code 1 would look like a missed limit in CI
        if isinstance(error, OSError) and error.filename is not None:  # a file that disappeared or is not readable
            complain(f"{os.fsdecode(error.filename)}: {error.strerror}")
        else:  # a bug in edgeq
            traceback.print_exc()
        code = EXIT_ERROR
    _stop_raising()
    gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


def _stop(signal_number: int, frame: Any) -> NoReturn:
    """Raise the exception that belongs to a signal, and raise it again until `main` has caught it.

    Native modules sometimes swallow exceptions while they are imported. A command that is interrupted at that moment
    would continue, and replace files.
    """
    signal.signal(signal.SIGALRM, lambda *_: _stop(signal_number, frame))
    signal.setitimer(signal.ITIMER_REAL, _RAISE_AGAIN_SECONDS)
    if signal_number == signal.SIGTERM:
        sys.exit(_EXIT_TERMINATED)
    raise KeyboardInterrupt


def _stop_raising() -> None:
    """Cancel the timer of `_stop`, whose exception has been caught."""
    signal.setitimer(signal.ITIMER_REAL, 0)
