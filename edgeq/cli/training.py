"""Options of commands that train, and the rules for combining them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection

import click

from edgeq.cli.help import option, together
from edgeq.cli.options import FiniteRange
from edgeq.cli.output import given_options, refuse_given

__all__ = ["FOR_FINE_TUNING", "LARGEST_SEED", "check_combination", "say_how_to_continue", "schedule_options"]

LARGEST_SEED = 2**31 - 1
"""TensorFlow's seeds are int32."""

FOR_FINE_TUNING = ("fine_tune_epochs", "fine_tune_rate")
"""Parameters that apply only with --fine-tune."""

schedule_options = together(
    option(
        "Training",
        "--patience",
        type=click.IntRange(1),
        show_default="10; from scratch: never stop early",
        help="Stop after N epochs without an improvement.",
    ),
    option("Training", "--batch", type=click.IntRange(1), show_default="32, or 64 from scratch", help="Batch size."),
    option(
        "Training",
        "--learning-rate",
        type=FiniteRange(0, min_open=True),
        metavar="RATE",
        show_default="0.001, or 0.002 from scratch",
        help="Peak learning rate. The rate rises to this value and then falls to 0.",
    ),
    option(
        "Training",
        "--fine-tune-rate",
        type=FiniteRange(0, min_open=True),
        default=2e-4,
        metavar="RATE",
        help="Peak learning rate with --fine-tune.",
    ),
)
"""When a training ends, and how fast it learns."""


def check_combination(from_scratch: bool, fine_tune: int, for_transfer: Collection[str]) -> None:
    """Raise an error for options that do not apply to this kind of training.

    Args:
        from_scratch: whether all layers are trained.
        fine_tune: number of blocks to fine-tune.
        for_transfer: parameters that apply only to transfer learning.

    Raises:
        click.UsageError: the user gave an option that has no effect.
    """
    if from_scratch and (given := given_options(for_transfer)):
        raise click.UsageError(f"--from-scratch trains all layers from random weights; omit {given}")
    if not fine_tune:
        refuse_given(FOR_FINE_TUNING, "only with --fine-tune")


def say_how_to_continue(what: str) -> None:
    """Print the command that continues the interrupted work of this one.

    Args:
        what: what is saved, such as "training".
    """
    given = [argument for argument in sys.argv[1:] if argument != "--resume"]
    click.echo(f"The {what} is saved. To continue:\n  {shlex.join(['edgeq', *given, '--resume'])}", err=True)
