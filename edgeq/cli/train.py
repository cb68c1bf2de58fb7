"""``edgeq train``: train a classifier on a folder of photos."""

from __future__ import annotations

import logging
import os
from typing import Any

import click

from edgeq.cli.architecture import architecture_options, chosen_architecture, res_option
from edgeq.cli.help import Command, option
from edgeq.cli.options import FiniteRange, seed_option, verbose_option
from edgeq.cli.progress import Progress
from edgeq.cli.temporary import own_temporary_folder
from edgeq.cli.training import (
    FOR_FINE_TUNING,
    LARGEST_SEED,
    check_combination,
    say_how_to_continue,
    schedule_options,
)
from edgeq.comparison.metrics import wilson_interval
from edgeq.quiet import quiet
from edgeq.report.files import skipped_lines
from edgeq.report.tables import size as readable_size
from edgeq.training import Epoch, Trained, TrainingPlan, can_resume, train

__all__ = ["command"]

_FOR_TRANSFER = ("weights", "views", "fine_tune", *FOR_FINE_TUNING)


@click.command("train", cls=Command)
@click.argument("folder", metavar="DIR")
@res_option("224")
@architecture_options
@option(
    "Network",
    "--weights",
    default="auto",
    metavar="NAME|FILE",
    help="Initial weights of the layers below the head: imagenet (from Keras's cache or downloaded), bundled (a small "
    "network included in edgeq), auto (imagenet if available, else bundled), or a Keras weights file for 1000 "
    "classes.",
)
@option(
    "Training",
    "--fine-tune",
    type=click.IntRange(0),
    default=0,
    help="After the head, also train the last N blocks (MobileNetV2 has 17) at a lower learning rate. 0 trains only "
    "the head.",
)
@option(
    "Training",
    "--from-scratch",
    is_flag=True,
    help="Train all layers, from random weights. Use it for small inputs.",
)
@option(
    "Training",
    "--epochs",
    type=click.IntRange(1),
    show_default="30, or 60 from scratch",
    help="Maximum number of epochs.",
)
@option(
    "Training",
    "--fine-tune-epochs",
    type=click.IntRange(1),
    default=10,
    help="Maximum number of epochs with --fine-tune.",
)
@schedule_options
@seed_option("Training", "the split, the weights and the augmentation", LARGEST_SEED)
@option(
    "Training",
    "--resume",
    is_flag=True,
    help="Continue an interrupted training. The result is the same as without the interruption.",
)
@option(
    "Data",
    "--validation",
    "validation_share",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    metavar="FRACTION",
    help="Fraction of each class's photos to hold out for validation.",
)
@option(
    "Data",
    "--views",
    type=click.IntRange(1),
    default=4,
    help="Number of variants of each photo: the photo itself and N-1 randomly cropped, rotated, flipped and recolored "
    "ones. The frozen layers run once per variant.",
)
@option(
    "Data",
    "--flip/--no-flip",
    "flips",
    default=True,
    help="Flip photos horizontally at random. Use --no-flip if left and right differ, as in digits and signs.",
)
@option(
    "Output",
    "--out",
    required=True,
    metavar="FILE.keras",
    help="File for the trained network. The other files are written to the same folder.",
)
@verbose_option
@own_temporary_folder()
def command(
    folder: str,
    out: str,
    size: tuple[int, int] | None,
    family: str,
    alpha: float | None,
    output_stride: str | None,
    head: int | None,
    weights: str,
    from_scratch: bool,
    resume: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Train a classifier on your own photos.

    Use it to recognize your own classes. DIR has one sub-folder per class, named after the class. By default, edgeq
    trains only the head and freezes all other layers. With --fine-tune it then also trains the top blocks. With
    --from-scratch it trains all layers. It keeps the epoch that is best on the validation photos.

    Next, run `edgeq convert FILE.keras --int8 --calib DIR`. It does not calibrate on the validation photos. After an
    interruption, run the same command with --resume.

    \b
    Files:
      FILE.keras           the network, with its labels and preprocessing
      FILE.history.json    settings, and the metrics of every epoch
      FILE.history.png     learning curve
      FILE.validation.csv  the held-out photos, for `edgeq compare --data`
      FILE.keras.training  folder for --resume, deleted at the end

    \b
    Examples:
      $ edgeq train flowers/ --out flowers.keras --fine-tune 4
      ...
      Kept epoch 8 (fine-tune): validation accuracy 96.3 % (95 % interval 94.5 to
      97.5) on 648 photos. Trained on 2592 photos of 5 classes.
      $ edgeq train photos/ --out my.keras --network mobilenet_v3_small --res 160
      $ edgeq train icons/ --out icons.keras --from-scratch --res 32 --alpha 0.35
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its caches are not needed
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    check_combination(from_scratch, settings["fine_tune"], _FOR_TRANSFER)
    if weights == "none":
        raise click.UsageError("--weights none: transfer learning needs trained weights; use --from-scratch")
    plan = (TrainingPlan.from_scratch if from_scratch else TrainingPlan)(
        architecture=chosen_architecture(size, family, alpha, output_stride, head),
        alpha=alpha,
        weights="none" if from_scratch else weights,
        **{name: value for name, value in settings.items() if value is not None},
    )
    try:
        with Progress() as progress, progress.printing("edgeq.training"), quiet(verbose):
            progress("Loading TensorFlow", 0, 1)
            trained = train(
                folder,
                out,
                plan,
                resume=resume,
                progress=progress,
                on_epoch=lambda epoch: progress.line(_line(epoch)),
            )
    except (KeyboardInterrupt, SystemExit):
        if can_resume(out):
            say_how_to_continue("training")
        raise
    _print(trained)


def _line(epoch: Epoch) -> str:
    return (
        f"{epoch.cycle} {epoch.number:3}  loss {epoch.loss:.4f}  top-1 {100 * epoch.top1:5.1f} %   validation: loss "
        f"{epoch.validation_loss:.4f}  top-1 {100 * epoch.validation_top1:5.1f} %"
    )


def _print(trained: Trained) -> None:
    photos, best = trained.photos, trained.best
    for line in skipped_lines(photos.skipped):
        click.echo(line)
    count = len(photos.validation)
    low, high = wilson_interval(best.validation_top1 * count, count)
    click.echo(
        f"Kept epoch {best.number} ({best.cycle}): validation accuracy {100 * best.validation_top1:.1f} % (95 % "
        f"interval {100 * low:.1f} to {100 * high:.1f}) on {count} photos. Trained on {len(photos.training)} photos of "
        f"{len(photos.classes)} classes."
    )
    files = {
        trained.network: f"{readable_size(trained.network.stat().st_size)}, with labels and preprocessing",
        trained.history: "settings and metrics of every epoch",
        trained.curve: "learning curve",
        trained.held_out: "held-out photos, for edgeq compare --data",
    }
    width = max(len(str(path)) for path in files)
    for path, what in files.items():
        click.echo(f"{path!s:<{width}}  {what}")
