"""``edgeq infer``: what is on these images."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.options import make_overrides, model_options, on_option, runtime_option
from edgeq.cli.output import complain, report_skipped
from edgeq.errors import EXIT_ERROR, ImageError
from edgeq.images import expand
from edgeq.runtime import KERNELS
from edgeq.tflite.metadata import read_metadata

if TYPE_CHECKING:
    from PIL import Image

    from edgeq.classification import Prediction
    from edgeq.preprocessing import Preprocessing
    from edgeq.runtime import Model

__all__ = ["command", "print_predictions"]

_MOST_THREADS = 4  # what a Raspberry Pi has; a small network gains nothing from more


@click.command("infer")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", "-m", "model_path", required=True, metavar="FILE", help="The .tflite model.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many labels to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line and image.")
@click.option("--time", "timed", is_flag=True, help="Also print decode, preprocess and invoke times.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the interpreter. Default: the cores, up to 4.")
@click.option(
    "--kernels",
    type=click.Choice(KERNELS),
    default="default",
    show_default=True,
    help="The reference kernels are slow and give the same bytes on every machine.",
)
@on_option
@click.option("--images", "send_images", is_flag=True, help="With --on: send the photos, which the device decodes.")
@runtime_option
@model_options
def command(
    images: tuple[str, ...],
    model_path: str,
    top: int,
    as_json: bool,
    timed: bool,
    threads: int | None,
    kernels: str,
    hosts: tuple[str, ...],
    send_images: bool,
    runtime: str | None,
    **about_model: Any,
) -> None:
    """Name what is on images.

    IMAGE is a file, a folder, a pattern such as 'photos/*.jpg', or - for standard input. An image that cannot
    be read is reported and the rest go on; the exit code is 2 then. Other files in a folder are skipped.

    \b
    Examples:
      edgeq infer photo.jpg --model m.tflite
      edgeq infer photos/ --model m.tflite --top 1
      edgeq infer photos/ --model m.tflite --json > predictions.jsonl
      cat photo.jpg | edgeq infer - --model m.tflite --time
      edgeq infer photos/ --model m.tflite --on pi@raspberrypi
      edgeq infer cat.jpg --model theirs.tflite --normalize 0..1 --labels labels.txt
    """
    overrides = make_overrides(**about_model)
    metadata = read_metadata(model_path) if Path(model_path).is_file() else None

    def load() -> Model:
        from edgeq.runtime import Model

        threads_used = threads or min(_MOST_THREADS, os.cpu_count() or 1)
        return Model(
            model_path,
            runtime=runtime,
            threads=threads_used,
            kernels=kernels,
            overrides=overrides,
            metadata=metadata,
        )

    if hosts:
        from edgeq.cli.infer_on import infer_on_devices

        infer_on_devices(
            hosts, images, model_path, overrides, top, as_json, timed, send_images, runtime, threads, kernels
        )
        return
    stated = metadata.preprocessing if metadata else None
    failed = False
    names, others = expand(images)
    report_skipped(len(others))
    for model, decoded in _decoded_ahead(names, stated and overrides.applied(stated), load):
        if decoded.error is not None:
            failed = True
            complain(decoded.error)
            if as_json:
                reason = str(decoded.error).removeprefix(f"{decoded.name}: ")
                click.echo(json.dumps({"file": decoded.name, "error": reason}))
            continue
        predictions, times_ms = _classify(model, decoded, top)
        if as_json:
            line: dict[str, Any] = {"file": decoded.name, "predictions": [asdict(p) for p in predictions]}
            if timed:
                line["times_ms"] = times_ms
            click.echo(json.dumps(line))
        else:
            print_predictions(decoded.name, predictions, times_ms if timed else {})
    if failed:
        sys.exit(EXIT_ERROR)


@dataclass
class _Decoded:
    """One image that was decoded, or failed to be."""

    name: str
    image: Image.Image | None = None
    error: Exception | None = None
    decode_ms: float = 0.0

    def decode(self, preprocessing: Preprocessing) -> None:
        start = perf_counter()
        try:
            self.image = preprocessing.decode(_read_stdin() if self.name == "-" else self.name)
        except Exception as error:  # it belongs to the thread that waits for this one
            self.error = error
        self.decode_ms = (perf_counter() - start) * 1000


def _read_stdin() -> BytesIO:
    """All of standard input; without Python's buffer, whose lock a waiting thread would hold at exit."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
        content = BytesIO(stream.readall())
    content.name = "standard input"  # what messages call it
    return content


def _decoded_ahead(
    names: Iterable[str], preprocessing: Preprocessing | None, load: Callable[[], Model]
) -> Iterator[tuple[Model, _Decoded]]:
    """Give the model with one decoded image after the other; the next is decoded while one is being used.

    The first is decoded while the model (and NumPy, and the runtime) loads, if the preprocessing is known.
    """
    model = None if preprocessing else load()
    spec = preprocessing or (model and model.preprocessing)
    previous: tuple[Thread, _Decoded] | None = None
    for name in [*names, None]:
        current = None
        if name is not None:
            decoded = _Decoded(name)
            current = Thread(target=decoded.decode, args=(spec,), daemon=True), decoded
            current[0].start()
        model = model or load()
        if previous:
            previous[0].join()
            if previous[1].error and not isinstance(previous[1].error, ImageError):
                raise previous[1].error
            yield model, previous[1]
        previous = current


def _classify(model: Model, decoded: _Decoded, top: int) -> tuple[list[Prediction], dict[str, float]]:
    """The best classes of one image, and how long each step took, in milliseconds."""
    from edgeq.classification import top_predictions

    assert decoded.image is not None
    start = perf_counter()
    tensor = model.tensor(model.preprocessing.resample(decoded.image))
    ready = perf_counter()
    output = model.invoke(tensor)
    done = perf_counter()
    times = {"decode": decoded.decode_ms, "preprocess": (ready - start) * 1000, "invoke": (done - ready) * 1000}
    predictions = top_predictions(model.probabilities(output), model.labels, top)
    return predictions, {step: round(ms, 3) for step, ms in times.items()}


def print_predictions(name: str, predictions: Sequence[Prediction], times_ms: dict[str, float]) -> None:
    """The predictions of one image, and how long each step took, for people."""
    click.secho(name, bold=True)
    for prediction in predictions:
        click.echo(f"{prediction.probability:8.1%}  {prediction.label}")
    if times_ms:
        click.echo("          " + ", ".join(f"{step} {ms:.1f} ms" for step, ms in times_ms.items()))
