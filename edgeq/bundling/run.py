#!/usr/bin/env python3
"""Classify photos, or what a camera sees, with the model beside this file.

    python run.py photo.jpg               print the five most probable classes
    python run.py --json photos/*.jpg     print one JSON object per photo, each on its own line
    python run.py --watch picamera        print each new label that a camera sees; - for JPEGs on standard input
    python run.py --self-test             check that this machine reproduces the stored outputs

Needs Python 3.9 or newer, numpy, Pillow, and tflite-runtime or ai-edge-litert (see requirements.txt).
edgeq wrote this file. model.json describes the model.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

__all__ = ["Classifier", "main"]

HERE = Path(__file__).resolve().parent
RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter")
CAMERA = "rpicam-vid --codec mjpeg --timeout 0 --nopreview --flush --width 640 --height 480 --output -"
AVERAGED = 5  # frames whose probabilities are averaged while watching
THRESHOLD = 0.5  # average probability that a label needs
FLOAT_TOLERANCE = 1e-4  # floats may differ in their last digits from processor to processor


class Classifier:
    """The model of this folder, ready to run."""

    def __init__(self, threads: int = 4, reference: bool = False) -> None:
        """Load the model.

        Args:
            threads: number of threads that the interpreter may use.
            reference: whether to use TFLite's reference kernels, which are slow, but bit-identical on every machine.
        """
        self.facts = json.loads((HERE / "model.json").read_text("utf-8"))
        self.labels = (HERE / "labels.txt").read_text("utf-8").splitlines()
        self.table = np.array(self.facts["input_table"], self.facts["input_type"])  # (256, 1 or channels)
        module = import_runtime()
        kernels = {"experimental_op_resolver_type": module.OpResolverType.BUILTIN_REF} if reference else {}
        self.interpreter = module.Interpreter(str(HERE / self.facts["model"]), num_threads=threads, **kernels)
        self.interpreter.allocate_tensors()
        (self.input,), (self.output,) = self.interpreter.get_input_details(), self.interpreter.get_output_details()

    def tensor(self, photo: str | Path | bytes) -> Any:
        """Preprocess a photo, a file or its bytes; return the input tensor, of the input's shape and type."""
        pixels = self.pixels(photo)
        values = self.table[:, 0][pixels] if self.table.shape[1] == 1 else self.table[pixels, range(pixels.shape[2])]
        return (values.transpose(2, 0, 1) if self.facts["layout"] == "NCHW" else values).reshape(self.input["shape"])

    def invoke(self, tensor: Any) -> Any:
        """Run the model; return its output tensor, not dequantized, of the output's shape and type."""
        self.interpreter.set_tensor(self.input["index"], tensor)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"])

    def probabilities(self, output: Any) -> Any:
        """Turn an output tensor into probabilities of the classes: (classes,) float64."""
        real = output.astype(np.float64).reshape(-1)
        scale, zero_point = self.output["quantization"]
        if scale:
            real = (real - zero_point) * scale
        if self.facts["output"] != "logits":
            return np.array([1 - real[0], real[0]]) if real.size == 1 else real
        if real.size == 1:
            real = np.array([0.0, real[0]])
        exponentials = np.exp(real - real.max())
        return exponentials / exponentials.sum()

    def pixels(self, photo: str | Path | bytes) -> Any:
        """Decode a photo, rotate it upright, crop its centre and resize it: (height, width, channels) uint8."""
        size = (self.facts["width"], self.facts["height"])
        with Image.open(BytesIO(photo) if isinstance(photo, bytes) else photo) as image:
            self.reduce(image)
            image.load()
            upright = to_mode(ImageOps.exif_transpose(image), "L" if self.facts["channels"] == "L" else "RGB")
        box = self.crop_box(*upright.size)
        if upright.size != size or box != (0.0, 0.0, *upright.size):
            upright = upright.resize(size, Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(upright, np.uint8).reshape(size[1], size[0], -1)
        return pixels[:, :, ::-1] if self.facts["channels"] == "BGR" else pixels

    def predictions(self, probabilities: Any, top: int) -> list[dict[str, Any]]:
        """Return the most probable classes, best first."""
        best = np.argsort(-probabilities, kind="stable")[:top]
        names = self.labels or [str(i) for i in range(len(probabilities))]
        return [{"index": int(i), "label": names[i], "probability": round(float(probabilities[i]), 6)} for i in best]

    def crop_box(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Return the centre crop of an image of that size: (left, top, right, bottom) in pixels."""
        wide, high = self.facts["width"], self.facts["height"]
        scale = min(width / wide, height / high) * self.facts["crop"]
        left, top = max(0.0, (width - wide * scale) / 2), max(0.0, (height - high * scale) / 2)
        return left, top, min(left + wide * scale, width), min(top + high * scale, height)

    def reduce(self, image: Image.Image) -> None:
        """Make Pillow decode a JPEG at 1/8, 1/4 or 1/2 of its size, if exact and still twice as large as needed."""
        if image.format not in ("JPEG", "MPO"):
            return
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        width, height = reversed(image.size) if turned else image.size
        left, _, right, _ = self.crop_box(width, height)
        factor = 2 * self.facts["width"] / (right - left)
        enough = (max(1, round(width * factor)), max(1, round(height * factor)))
        for divisor in (8, 4, 2):
            exact = width % divisor == height % divisor == 0
            if exact and width // divisor >= enough[0] and height // divisor >= enough[1]:
                image.draft(None, (image.width // divisor, image.height // divisor))
                return


def import_runtime() -> Any:
    """Import the first TFLite runtime that is installed."""
    for name in RUNTIMES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    sys.exit("run.py: no TFLite runtime is installed. Run: python -m pip install -r requirements.txt")


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to 8 bits per channel, with transparent pixels on white and 16-bit grey scaled."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) / 257.0).round().astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        visible = image.convert("RGBA")
        image = Image.new("RGB", visible.size, (255, 255, 255))
        image.paste(visible, mask=visible.getchannel("A"))
    return image if image.mode == mode else image.convert(mode)


def watch(source: str, options: argparse.Namespace) -> int:
    """Classify the newest frame again and again; print each new label, or as JSON each frame. Return the exit code."""
    if source != "-" and shutil.which("rpicam-vid") is None:
        sys.exit("run.py: rpicam-vid is not installed. Run: sudo apt install rpicam-apps-lite")
    classifier = Classifier()
    notify(b"READY=1")
    stream = sys.stdin if source == "-" else subprocess.Popen(CAMERA.split(), stdout=subprocess.PIPE).stdout
    assert stream
    watch_frames(jpegs(lambda: os.read(stream.fileno(), 1 << 16)), classifier, options)
    if source != "-":
        sys.exit("run.py: rpicam-vid ended")  # systemd starts it again
    return 0


def watch_frames(frames: Iterator[bytes], classifier: Classifier, options: argparse.Namespace) -> None:
    """Print what the frames show. A frame that cannot be decoded is skipped."""
    latest: deque[Any] = deque(maxlen=AVERAGED)
    before = None
    for frame in newest(frames):
        try:
            tensor = classifier.tensor(frame)
        except Exception:  # Pillow raises exceptions of many types for damaged files
            continue
        probabilities = classifier.probabilities(classifier.invoke(tensor))
        latest.append(probabilities)
        (best,) = classifier.predictions(np.mean(latest, axis=0), 1)
        label = best["label"] if best["probability"] >= THRESHOLD else None
        if options.json:
            seen = {"time": time.time(), "label": label, "probability": best["probability"]}
            seen["predictions"] = classifier.predictions(probabilities, options.top)
            print(json.dumps(seen), flush=True)
        elif label != before or len(latest) == 1:
            print(f"{time.strftime('%H:%M:%S')}  {best['probability']:6.1%}  {label or '(unsure)'}", flush=True)
        before = label
        notify(b"WATCHDOG=1")


def newest(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the newest frame each time. Frames that come while the model runs are dropped."""
    waiting: queue.Queue[bytes | None] = queue.Queue(1)

    def read() -> None:
        for frame in frames:
            with suppress(queue.Empty):
                waiting.get_nowait()
            waiting.put(frame)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    return iter(waiting.get, None)


def jpegs(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Split a stream into its JPEG images; `read` returns its next bytes, or none at its end."""
    buffer = b""
    while content := read():
        buffer += content
        while (end := jpeg_end(buffer)) is not None:
            yield buffer[buffer.find(b"\xff\xd8\xff") : end]
            buffer = buffer[end:]
        if len(buffer) > 1 << 26:  # no image is that large
            buffer = b""


def jpeg_end(buffer: bytes) -> int | None:
    """Return the position after the first JPEG image, which may contain a thumbnail; None if more bytes are needed."""
    start = buffer.find(b"\xff\xd8\xff")
    position = start + 2
    while start >= 0 and position + 4 <= len(buffer):
        if buffer[position] != 0xFF:  # damaged
            return position
        if buffer[position + 1] == 0xDA:  # start of the image data, in which 0xFF is followed by 0
            end = buffer.find(b"\xff\xd9", position)
            return end + 2 if end >= 0 else None
        position += 2 + int.from_bytes(buffer[position + 2 : position + 4], "big")
    return None


def notify(state: bytes) -> None:
    """Tell systemd, if it started this process, that it is ready or alive: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
            messages.sendto(state, "\0" + address[1:] if address.startswith("@") else address)


def self_test() -> int:
    """Run the images in selftest/ with the reference kernels, and compare the outputs with those stored there.

    Integer outputs must be identical, float outputs equal within `FLOAT_TOLERANCE`. Returns the exit code.
    """
    classifier = Classifier(reference=True)
    expected = json.loads((HERE / "selftest" / "expected.json").read_text("utf-8"))
    for name, output in expected.items():
        found = classifier.invoke(classifier.tensor(HERE / "selftest" / name)).reshape(-1)
        wanted = np.array(output, found.dtype)
        differing = int(np.sum(found != wanted))
        if found.dtype.kind == "f":
            differing = int(np.sum(~np.isclose(found, wanted, atol=FLOAT_TOLERANCE, rtol=0)))
        if differing:
            print(f"FAILED: {name}: {differing} of {found.size} outputs differ")
            return 1
    print(f"OK: {len(expected)} images, all outputs as expected")
    return 0


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", nargs="*", metavar="PHOTO")
    parser.add_argument("--top", type=int, default=5, help="how many classes to print (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--watch", metavar="SOURCE", help="picamera, or - for JPEG images on standard input")
    parser.add_argument("--self-test", action="store_true", help="check that this machine gives the stored outputs")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if options.watch in ("-", "picamera"):
        return watch(options.watch, options)
    if options.watch or not options.photos:
        parser.error("give a photo, --watch -, --watch picamera, or --self-test")
    classifier = Classifier()
    failed = False
    for photo in options.photos:
        try:
            tensor = classifier.tensor(photo)
        except Exception as error:  # Pillow raises exceptions of many types for damaged files
            print(f"run.py: {photo}: cannot be read ({error})", file=sys.stderr)
            failed = True
            continue
        show(photo, classifier, tensor, options)
    return 2 if failed else 0


def show(photo: str, classifier: Classifier, tensor: Any, options: argparse.Namespace) -> None:
    """Print the most probable classes of one photo."""
    predictions = classifier.predictions(classifier.probabilities(classifier.invoke(tensor)), options.top)
    if options.json:
        print(json.dumps({"file": photo, "predictions": predictions}), flush=True)
        return
    print(photo)
    for p in predictions:
        print(f"{p['probability']:8.1%}  {p['label']}")


if __name__ == "__main__":
    sys.exit(main())
