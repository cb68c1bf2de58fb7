"""``edgeq train``: from a folder of photos to a network of one's own."""

from __future__ import annotations

import math
import os
from typing import Any

import click

from edgeq.cli.architecture import architecture_options, chosen_output_stride, res_option
from edgeq.cli.output import given_options
from edgeq.cli.progress import Progress
from edgeq.comparison.metrics import wilson_interval
from edgeq.networks import NAMED_WEIGHTS, Architecture, default_output_stride
from edgeq.quiet import quiet
from edgeq.report import size as readable_size
from edgeq.report.files import skipped_lines
from edgeq.training import Epoch, Plan, Trained, can_resume, train

__all__ = ["command"]

_FROM_SCRATCH = {"epochs": 60, "batch": 64, "learning_rate": 0.002}
_TRANSFER = {"epochs": 30, "batch": 32, "learning_rate": 0.001}
_PATIENCE = 10
_LARGEST_SEED = 2**31 - 1  # TensorFlow's are int32
_FOR_TRANSFER = {"weights", "views", "fine_tune", "fine_tune_epochs", "fine_tune_rate"}
_FOR_FINE_TUNING = {"fine_tune_epochs", "fine_tune_rate"}


class _Positive(click.FloatRange):
    """A number above 0 and below a limit; neither NaN, which no comparison would refuse, nor infinity."""

    def __init__(self, limit: float | None = None) -> None:
        super().__init__(0, limit, min_open=True, max_open=limit is not None)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail("is not a finite number", param, ctx)
        return number


@click.command("train")
@click.argument("folder", metavar="DIR")
@click.option("--out", required=True, metavar="FILE.keras", help="Where the network goes; see above for the rest.")
@res_option("224")
@architecture_options
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    metavar="|".join((*NAMED_WEIGHTS[:3], "PATH")),
    help="What the layers below the head begin with. imagenet: from Keras's cache or download. bundled: a small "
    "network that comes with edgeq. auto: imagenet, else bundled, saying so. Or a Keras weights file for 1000 classes.",
)
@click.option(
    "--fine-tune",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Once the head has learnt, train the last N blocks (of 17 in MobileNetV2) with it, at a lower rate. "
    "Default: 0, the head alone.",
)
@click.option("--from-scratch", is_flag=True, help="Train all layers from random weights instead: for small inputs.")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    help="How often to go through the photos, at most. Default: 30, or 60 from scratch.",
)
@click.option(
    "--fine-tune-epochs",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    metavar="N",
    help="The same for --fine-tune.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    metavar="N",
    help=f"Stop after N epochs without a better one. Default: {_PATIENCE}; from scratch, never.",
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Photos a step. Default: 32, or 64 from scratch.")
@click.option(
    "--learning-rate",
    type=_Positive(),
    metavar="RATE",
    help="The highest; each step's rises to it and falls to 0. Default: 0.001, or 0.002 from scratch.",
)
@click.option(
    "--fine-tune-rate",
    type=_Positive(),
    default=2e-4,
    show_default=True,
    metavar="RATE",
    help="The same for --fine-tune.",
)
@click.option(
    "--views",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    metavar="N",
    help="How many variants of each photo to learn from: as it is, and N-1 cropped, turned, mirrored and recoloured "
    "at random. Frozen layers run once for each.",
)
@click.option(
    "--flip/--no-flip",
    "flips",
    default=True,
    show_default=True,
    help="Whether to mirror photos at random; not where left and right differ, as in digits and signs.",
)
@click.option(
    "--validation",
    type=_Positive(1),
    default=0.2,
    show_default=True,
    metavar="SHARE",
    help="Share of each class's photos that is held out.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, _LARGEST_SEED),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the split and all else that is random.",
)
@click.option("--resume", is_flag=True, help="Go on with a training that was interrupted.")
@click.option("--verbose", is_flag=True, help="Show what TensorFlow prints.")
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
    fine_tune: int,
    epochs: int | None,
    fine_tune_epochs: int,
    patience: int | None,
    batch: int | None,
    learning_rate: float | None,
    fine_tune_rate: float,
    views: int,
    flips: bool,
    validation: float,
    seed: int,
    resume: bool,
    verbose: bool,
) -> None:
    """Train a network on photos of your own: DIR has one sub-folder a class, named for it.

    Transfer learning: the layers below the head keep their weights, and the head learns what they see in your
    photos; with --fine-tune, the top blocks then learn too. BatchNormalization stays in inference mode. A part
    of the photos is held out; the epoch that does best on them is kept. With --from-scratch all layers learn.

    \b
    Writes
      FILE.keras           the network, with its labels and preprocessing
      FILE.history.json    the settings, and every epoch
      FILE.history.png     the learning curve
      FILE.validation.csv  the photos held out, for `edgeq compare --data`
      FILE.keras.training  a folder: what was done so far, until all is done

    FILE.keras is ready for `edgeq convert FILE.keras --int8 --calib DIR`, which does not calibrate on the photos held
    out.

    After an interruption the same command with --resume goes on, to the same result.

    \b
    Examples:
      edgeq train photos/ --out flowers.keras
      edgeq train photos/ --out flowers.keras --fine-tune 4 --head 256
      edgeq train photos/ --out flowers.keras --network mobilenet_v3_small --res 300x200
      edgeq train icons/ --out icons.keras --from-scratch --res 32 --alpha 0.35
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    given = given_options(_FOR_TRANSFER)
    if from_scratch and given:
        raise click.UsageError(f"--from-scratch trains all layers from random weights: without {_listed(given)}")
    if not fine_tune and given & _FOR_FINE_TUNING:
        raise click.UsageError(f"{_listed(given & _FOR_FINE_TUNING)}: only with --fine-tune")
    if weights == "none":
        raise click.UsageError("--weights none: nothing to build on; use --from-scratch")
    height, width = size or (224, 224)
    stride = chosen_output_stride(output_stride, height, width) or default_output_stride(height, width)
    defaults = _FROM_SCRATCH if from_scratch else _TRANSFER
    epochs = epochs or int(defaults["epochs"])
    plan = Plan(
        Architecture(family, height, width, 1.0 if alpha is None else alpha, stride, head=head),
        alpha=alpha,
        weights="none" if from_scratch else weights,
        fine_tune=fine_tune,
        epochs=epochs,
        fine_tune_epochs=fine_tune_epochs,
        batch=batch or int(defaults["batch"]),
        learning_rate=learning_rate or defaults["learning_rate"],
        fine_tune_rate=fine_tune_rate,
        views=views,
        flips=flips,
        validation_share=validation,
        patience=patience or (epochs if from_scratch else _PATIENCE),
        seed=seed,
    )
    try:
        with Progress() as progress, quiet(verbose):
            progress("Loading TensorFlow", 0, 1)
            trained = train(
                folder,
                out,
                plan,
                resume=resume,
                progress=progress,
                announce=lambda epoch: progress.line(_line(epoch)),
                remark=progress.line,
            )
    except (KeyboardInterrupt, SystemExit):
        if can_resume(out):
            click.echo("What was done is kept: the same command with --resume goes on.", err=True)
        raise
    _print(trained)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(f"--{name.replace('_', '-')}" for name in names))


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
        f"Kept epoch {best.number} ({best.cycle}): right on {100 * best.validation_top1:.1f} % of {count} validation "
        f"photos (95 % interval {100 * low:.1f} to {100 * high:.1f}), of {len(photos.classes)} classes. Trained on "
        f"{len(photos.training)} photos."
    )
    files = {
        trained.network: f"{readable_size(trained.network.stat().st_size)}, with labels and preprocessing",
        trained.history: "settings, and every epoch",
        trained.curve: "learning curve",
        trained.held_out: "photos held out, for edgeq compare --data",
    }
    width = max(len(str(path)) for path in files)
    for path, what in files.items():
        click.echo(f"{path!s:<{width}}  {what}")
