"""edgeq as users install it: a built wheel, away from the repository."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, ROOT]
    subprocess.run([str(part) for part in command], check=True)
    (path,) = out.glob("edgeq-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's content alone."""
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run(installed: Path, cwd: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_the_images_the_networks_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    images = [name for name in names if name.startswith("edgeq/shipped/calibration/")]
    assert len(images) == len(list((ROOT / "calibration").iterdir())) >= 100
    networks = {Path(name).name for name in names if name.startswith("edgeq/shipped/models/")}
    assert networks == {path.name for end in ("card.json", "weights.h5") for path in (ROOT / "models").glob(f"*.{end}")}
    assert networks
    assert {"edgeq/py.typed", *(f"edgeq/report/page.{end}" for end in ("html.jinja", "css", "js"))} <= set(names)
    assert {
        "edgeq/style.css",
        *(f"edgeq/watching/web/static/{name}" for name in ("index.html", "watch.css", "watch.js")),
    } <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"edgeq"}


def test_the_installed_copy_is_the_one_that_runs(installed, tmp_path):
    assert Path(run(installed, tmp_path, "-c", "import edgeq; print(edgeq.__file__)").strip()).is_relative_to(installed)


@pytest.mark.accept
def test_the_installed_copy_has_a_network_and_images_of_its_own(installed, tmp_path):
    """Where ImageNet's weights are unavailable. The job below refines."""
    options = ["--res", "96", "--weights", "bundled", "--int8", "--no-refine"]
    printed = run(installed, tmp_path, "-m", "edgeq", "convert", *options)
    assert "100 bundled images" in printed
    assert "No labels" not in printed
    photo = installed / "edgeq" / "shipped" / "calibration" / "leaves_000.jpg"
    (model,) = (tmp_path / "models").glob("*_int8.tflite")
    assert "%" in run(installed, tmp_path, "-m", "edgeq", "infer", photo, "--model", model)


@pytest.mark.accept
def test_every_job_in_one_script(installed, colour_network, photos, tmp_path):
    script = ROOT / "docs" / "example.py"
    nodes = list(ast.walk(ast.parse(script.read_text())))
    assert [name.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names] == [
        "edgeq"
    ]
    assert len(script.read_text().splitlines()) <= 40
    (tmp_path / "my_model.keras").symlink_to(colour_network)
    (tmp_path / "photos").symlink_to(photos)
    printed = run(installed, tmp_path, script).splitlines()
    jobs = [line.partition(":")[0] for line in printed]
    classified = [line for line in printed if line.startswith("classified")]
    assert list(dict.fromkeys(jobs)) == [
        *("converted", "refined", "classified", "compared", "inspected", "measured", "bundled")
    ]
    assert len(classified) == 12
    assert all(line.endswith(" as red") for line in classified)
    assert f"inspected: all integers, {32 * 32 * (27 + 9) + 9} multiply-adds" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "my_model.keras", "my_model.zip", "photos"]


def test_a_device_downloads_no_tensorflow(wheel):
    name = next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("METADATA"))
    required = [
        line.partition(":")[2].strip()
        for line in zipfile.ZipFile(wheel).read(name).decode().splitlines()
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    packages = {re.match(r"[\w-]+", line)[0] for line in required}
    assert packages == {"click", "pillow", "numpy", "tflite-runtime", "ai-edge-litert"}
