"""Make a bundle: a folder or zip with a model, a program that runs it, and a self-test."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from string import Template

from PIL import Image

from edgeq.device.wheels import Platform, download_wheels, requirements
from edgeq.errors import EdgeqError, InputError, one_line
from edgeq.files import member_info, replacing, shipped
from edgeq.inspection import check_target
from edgeq.runtime import Model
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import Overrides

__all__ = ["SERVICES", "Bundle", "bundle"]

SERVICES = ("photo", "watch")
"""What the example of a systemd unit does."""

_SELF_TEST_IMAGES = 3
_TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written and passed its self-test.

    Attributes:
        path: the folder or zip file.
        size_bytes: total size of the bundled files, before compression.
        files: paths of the bundled files, relative to the bundle, sorted.
    """

    path: Path
    size_bytes: int
    files: tuple[str, ...]


def bundle(
    model: str | Path,
    out: str | Path,
    *,
    wheels: str | None = None,
    service: str = "photo",
    overrides: Overrides | None = None,
) -> Bundle:
    """Write a model and everything needed to run it as a folder or zip file.

    The self-test of the bundle is run first; if it fails, nothing is written.

    Args:
        model: the .tflite file of an image classifier.
        out: the folder or, if the name ends in .zip, the zip file to write; an existing bundle is replaced.
        wheels: platform whose packages to include, such as ``linux_aarch64-cp311``; None to include none, so that the
            board installs them from the package index.
        service: what the example of a systemd unit does, a name in `SERVICES`: ``photo`` classifies a photo at each
            start, ``watch`` watches a Raspberry Pi's camera.
        overrides: preprocessing and labels to use instead of the file's.

    Raises:
        ModelError: the file is not an image classifier.
        InputError: `out` is a folder that is not a bundle, the files cannot be written, or the platform or the service
            is malformed.
        DeviceError: the wheels are unavailable.
        EdgeqError: the bundle's outputs in the self-test differ from the model's.
    """
    if service not in SERVICES:
        raise InputError(f"service {service!r}: must be {' or '.join(SERVICES)}")
    platform = Platform.parse(wheels) if wheels else None
    target = Path(out)
    as_zip = target.suffix.lower() == ".zip"
    if not as_zip:
        _require_replaceable(target)
    with replacing([target]) as (part,):
        folder = part.with_suffix(".folder") if as_zip else part
        folder.mkdir()
        loaded = Model(model, overrides=overrides, kernels="reference")
        _write_model(loaded, folder)
        _write_self_test(loaded, folder / "selftest")
        tflite_runtime = not check_target(read_graph(model), "tflite-runtime").obstacles
        _write_text_files(folder, Path(model), tflite_runtime, service)
        if platform:
            (folder / "wheels").mkdir()
            download_wheels(requirements(platform.python, tflite_runtime), platform, folder / "wheels")
        _check(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = tuple(path.relative_to(folder).as_posix() for path in files)
        made = Bundle(target, sum(path.stat().st_size for path in files), names)
        if as_zip:
            _zip(folder, part, target.stem)
        else:
            _require_replaceable(target)  # again, because minutes may have passed
    return made


def _require_replaceable(target: Path) -> None:
    """Raise an `InputError` if the target is a file, or a folder with anything but a bundle."""
    if target.exists():
        names = {path.name for path in target.iterdir()} if target.is_dir() else {"a file"}
        if names and not {"run.py", "model.json"} <= names:
            raise InputError(f"{target}: holds something other than a bundle; give a new or empty folder")


def _write_model(model: Model, folder: Path) -> None:
    """Write the model's file, its labels, and the facts that run.py needs."""
    spec = model.preprocessing
    name = _plain(model.path.name)
    shutil.copyfile(model.path, folder / name)
    facts = {
        "model": name,
        "sha256": model.sha256,
        "width": spec.width,
        "height": spec.height,
        "channels": spec.channels,
        "crop": spec.crop,
        "layout": model.layout,
        "output": "logits" if model.gives_logits else "probabilities",
        "input_type": model.input.quantization.dtype,
        "input_table": model.input_table.tolist(),
        "provenance": {k: v for k, v in model.metadata.provenance.items() if k != "calibration"},
    }
    (folder / "model.json").write_text(json.dumps(facts) + "\n", "utf-8")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in model.labels), "utf-8")


def _write_self_test(model: Model, folder: Path) -> None:
    """Write a few images as PNG, and the model's outputs for them, computed on this host by the reference kernels."""
    folder.mkdir()
    expected = {}
    side = 2 * max(model.preprocessing.width, model.preprocessing.height)
    for source in sorted(shipped("calibration").glob("*.jpg"))[:: 100 // _SELF_TEST_IMAGES][:_SELF_TEST_IMAGES]:
        picture = folder / f"{source.stem}.png"
        with Image.open(source) as image:
            image.thumbnail((side, side))
            image.save(picture)
        output = model.invoke(model.tensor(model.preprocessing.pixels(picture)))
        expected[picture.name] = output.reshape(-1).tolist()
    (folder / "expected.json").write_text(json.dumps(expected) + "\n", "utf-8")


def _write_text_files(folder: Path, model: Path, tflite_runtime: bool, service: str) -> None:
    shutil.copyfile(_TEMPLATES / "run.py", folder / "run.py")
    ends = [("<", requirements((3, 11), tflite_runtime)), (">=", requirements((3, 12)))]
    lines = [f'{requirement}; python_version {sign} "3.12"\n' for sign, wanted in ends for requirement in wanted]
    (folder / "requirements.txt").write_text("".join(lines), "utf-8")
    name = _plain(model.stem)
    for template, written in ((f"service_{service}.txt", f"{name}.service"), ("readme.txt", "README.md")):
        text = Template((_TEMPLATES / template).read_text("utf-8")).substitute(name=name, model=_plain(model.name))
        (folder / written).write_text(text, "utf-8")


def _check(folder: Path) -> None:
    """Run the bundle's self-test: run.py, which implements preprocessing anew, recomputes the stored outputs."""
    command = [sys.executable, "-B", str(folder / "run.py"), "--self-test"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        raise EdgeqError(f"the bundle fails its own test ({one_line(said[-1])})")


def _zip(folder: Path, target: Path, root: str) -> None:
    """Zip all files of a folder, in a folder named `root`; the same files give bit-identical archives."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = member_info(f"{root}/{path.relative_to(folder).as_posix()}")
            archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _plain(name: str) -> str:
    """Return a file's name without characters that have a special meaning for a shell or systemd."""
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII).lstrip("-.") or "model"
