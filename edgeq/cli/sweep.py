"""``edgeq sweep``: find the network for a folder of photos and a board."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgeq.cli.architecture import AUTO
from edgeq.cli.help import Command, option
from edgeq.cli.options import FiniteRange, on_option, scheduler_option, seed_option
from edgeq.cli.output import refuse_given
from edgeq.cli.progress import Progress
from edgeq.cli.training import (
    FOR_FINE_TUNING,
    LARGEST_SEED,
    check_combination,
    say_how_to_continue,
    schedule_options,
)
from edgeq.cli.values import Bytes, Duration, ListOf, Size
from edgeq.conversion.formats import FORMATS
from edgeq.networks import FAMILIES, OUTPUT_STRIDES
from edgeq.report.page import require_packages, write_report
from edgeq.report.sweep import sweep_lines
from edgeq.runtime import RUNTIMES
from edgeq.sweeping import Sweep, SweepGrid, SweepLimits, SweepPlan, sweep
from edgeq.training import TrainingPlan

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])

_PAGE = "sweep.html"
_FOR_TRANSFER = ("fine_tune", "views", *FOR_FINE_TUNING)
_OF_PLAN = ("epochs", "batch", "learning_rate", "patience", "flips", "validation_share", *_FOR_TRANSFER)


def _list(group: str, name: str, parameter: str, item: click.ParamType[Any], **settings: Any) -> Callable[[F], F]:
    return option(group, name, parameter, type=ListOf(item), **settings)


@click.command("sweep", cls=Command)
@click.argument("folder", metavar="DIR")
@_list("Grid", "--res", "sizes", Size(), metavar="N|WxH,...", default="224", help="Input sizes in pixels.")
@_list(
    "Grid",
    "--alpha",
    "alphas",
    FiniteRange(0, min_open=True),
    metavar="FACTOR,...",
    default="1.0",
    help="Width multipliers.",
)
@_list(
    "Grid",
    "--network",
    "networks",
    click.Choice(FAMILIES),
    metavar="NAME,...",
    default=FAMILIES[0],
    help=f"Architectures: {', '.join(FAMILIES)}.",
)
@_list(
    "Grid",
    "--output-stride",
    "output_strides",
    click.Choice([*map(str, OUTPUT_STRIDES), AUTO]),
    metavar="4|8|16|32|auto,...",
    show_default="32, or auto for inputs below 96 pixels",
    help="Output strides, see edgeq train.",
)
@_list(
    "Grid",
    "--format",
    "formats",
    click.Choice(list(FORMATS)),
    metavar="NAME,...",
    default="int8",
    help=f"Formats of the files: {', '.join(FORMATS)}.",
)
@option(
    "Limits",
    "--max-ms",
    type=FiniteRange(0, min_open=True),
    metavar="MS",
    help="Largest median latency in milliseconds. What is slower is not trained.",
)
@option("Limits", "--max-bytes", type=Bytes(), metavar="SIZE", help="Largest size of the file, such as 4M.")
@option(
    "Limits",
    "--max-ram",
    "max_ram_bytes",
    type=Bytes(),
    metavar="SIZE",
    help="Largest peak memory of the process, such as 80M. Python and the runtime take 45 to 60 MB of it.",
)
@option(
    "Limits",
    "--min-top1",
    type=FiniteRange(0, 1),
    metavar="FRACTION",
    help="Smallest validation accuracy for the pick of the fastest cell.",
)
@option(
    "Limits",
    "--budget",
    "budget_s",
    type=Duration(),
    metavar="TIME",
    help="Time for all runs of the sweep together, such as 20m or 2h.",
)
@option(
    "Training",
    "--from-scratch",
    is_flag=True,
    help="Train all layers, from random weights. Without it, edgeq trains the head of networks with ImageNet weights.",
)
@option(
    "Training",
    "--weights",
    type=click.Choice(["imagenet"]),
    help="Do not train: measure networks with ImageNet weights. DIR then has photos of ImageNet's classes.",
)
@option("Training", "--fine-tune", type=click.IntRange(0), default=0, help="After the head, train the last N blocks.")
@option(
    "Training",
    "--epochs",
    type=click.IntRange(1),
    show_default="30, or 60 from scratch",
    help="Number of epochs of a whole training.",
)
@option("Training", "--fine-tune-epochs", type=click.IntRange(1), default=10, help="The same for --fine-tune.")
@schedule_options
@seed_option("Training", "the split, the weights, the augmentation and the calibration", LARGEST_SEED)
@option(
    "Training",
    "--resume",
    is_flag=True,
    help="Continue an interrupted sweep with the same settings. Only --budget may change.",
)
@option(
    "Data",
    "--validation",
    "validation_share",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    metavar="FRACTION",
    help="Fraction of each class's photos by which epochs and cells are chosen.",
)
@option(
    "Data",
    "--test",
    "test_share",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    metavar="FRACTION",
    help="Fraction of the photos that no choice uses. They measure the picks.",
)
@option(
    "Data",
    "--views",
    type=click.IntRange(1),
    default=4,
    help="Number of variants of each photo, see edgeq train.",
)
@option("Data", "--flip/--no-flip", "flips", default=True, help="Flip photos horizontally at random, see edgeq train.")
@option(
    "Data",
    "--calib",
    "calibration",
    metavar="DIR",
    show_default="the bundled images",
    help="Folder of calibration images with --weights imagenet. Trained networks are calibrated on training photos.",
)
@option("Data", "--calib-count", "calibration_count", type=click.IntRange(10), default=100, help="Number of them.")
@scheduler_option
@on_option
@option(
    "Latency",
    "--runtime",
    type=click.Choice(["auto", *RUNTIMES]),
    metavar="NAME",
    default="auto",
    help=f"TFLite runtime to measure: auto (the fastest one installed), {', '.join(RUNTIMES)}.",
)
@option("Latency", "--threads", type=click.IntRange(1), default=1, help="Number of threads of the interpreter.")
@option(
    "Latency",
    "--seconds",
    type=FiniteRange(0, min_open=True),
    default=1.0,
    metavar="SECONDS",
    help="Time for which each file runs.",
)
@option("Output", "--out", required=True, metavar="DIR", help="Folder for all files.")
def command(
    folder: str,
    out: str,
    sizes: tuple[tuple[int, int], ...],
    output_strides: tuple[str, ...] | None,
    budget_s: float | None,
    resume: bool,
    scheduler: str | None,
    hosts: tuple[str, ...],
    from_scratch: bool,
    weights: str | None,
    **options: Any,
) -> None:
    """Find the best network for your photos and your board.

    Use it to choose the input size, the width, the architecture and the format by measurement. edgeq measures the
    latency of every cell of the grid, on this machine or with --on on boards, and leaves out what misses a limit. It
    trains the other networks by successive halving, converts the best ones, and measures their accuracy.

    It recommends the most accurate file, the fastest file and the best trade. DIR has one sub-folder per class. After
    an interruption, run the same command with --resume.

    \b
    Files:
      OUT/sweep.json  all measurements
      OUT/sweep.html  chart and table
      OUT/cells/      a folder per cell: the .tflite file, the history, cell.json

    \b
    Examples:
      $ edgeq sweep photos/ --res 96,160 --alpha 0.35,1.0 --max-ms 30 --out s
      $ edgeq sweep photos/ --on pi@raspberrypi --format int8,fp32 --out s
      $ edgeq sweep photos/ --res 96,128,160,224 --budget 2h --out s
      $ edgeq sweep icons/ --from-scratch --res 32 --alpha 0.35,0.5 --out icons
      $ edgeq sweep photos/ --res 96,160 --scheduler tcp://10.0.0.5:8786 --out s
      $ edgeq sweep evaluation/ --weights imagenet --res 160,224 --out imagenet
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    require_packages()
    plan = SweepPlan(
        grid=SweepGrid(
            networks=options["networks"],
            alphas=options["alphas"],
            sizes=sizes,
            output_strides=tuple(s if s == AUTO else int(s) for s in output_strides or ()) or (None,),
            formats=options["formats"],
        ),
        training=_training(from_scratch, weights, options),
        limits=SweepLimits(*(options[name] for name in ("max_ms", "max_bytes", "max_ram_bytes", "min_top1"))),
        on=hosts,
        **{
            name: options[name]
            for name in ("test_share", "seed", "calibration", "calibration_count", "runtime", "threads", "seconds")
        },
    )
    try:
        with Progress() as progress, progress.printing("edgeq.sweeping"):
            found = sweep(folder, out, plan, budget_s=budget_s, resume=resume, scheduler=scheduler, progress=progress)
    except (KeyboardInterrupt, SystemExit):
        if (Path(out) / "settings.json").is_file():
            say_how_to_continue("sweep")
        raise
    _show(found, Path(out))


def _training(from_scratch: bool, weights: str | None, options: dict[str, Any]) -> TrainingPlan | None:
    """Return the plan of training, or None for none; raise an error for options that do not apply."""
    if weights is not None:
        refuse_given(("from_scratch", *_OF_PLAN), "only for training, not with --weights imagenet")
        return None
    refuse_given(("calibration",), "only with --weights imagenet; trained networks are calibrated on training photos")
    check_combination(from_scratch, options["fine_tune"], _FOR_TRANSFER)
    chosen = {name: options[name] for name in _OF_PLAN if options[name] is not None}
    return (TrainingPlan.from_scratch if from_scratch else TrainingPlan)(**chosen)


def _show(found: Sweep, out: Path) -> None:
    """Print the table, and write the page."""
    for line in sweep_lines(found):
        click.echo(line)
    write_report(found, out / _PAGE, shlex.join(["edgeq", *sys.argv[1:]]))
    click.echo(f"{out / _PAGE}")
