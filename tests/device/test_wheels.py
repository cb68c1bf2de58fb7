"""Fetching packages for other machines: from a folder of wheels, with and without its own pip."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from edgeq.device.wheels import EXTRAS, Platform, download_wheels
from edgeq.errors import DeviceError

PI = Platform("aarch64", (3, 11))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package for every machine and one for a Pi, which needs the first."""
    folder = tmp_path_factory.mktemp("source")
    for name, tag, needs in (("easy", "py3-none-any", ""), ("hard", "cp311-cp311-manylinux_2_28_aarch64", "easy")):
        with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as archive:
            facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
            archive.writestr(f"{name}-1.0.dist-info/METADATA", facts + (f"Requires-Dist: {needs}\n" if needs else ""))
            archive.writestr(f"{name}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return folder


def test_the_extras_are_those_of_the_package() -> None:
    declared = (ROOT / "pyproject.toml").read_text()
    for name, wanted in EXTRAS.items():
        assert f'\n{name} = ["{wanted}"]\n' in declared


def names(wheels: list[Path]) -> list[str]:
    return [path.name.partition("-")[0] for path in wheels]


def test_packages_and_what_they_need(source: Path, tmp_path: Path) -> None:
    assert names(download_wheels(["hard"], PI, tmp_path, source)) == ["easy", "hard"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in source.iterdir()}


@pytest.mark.parametrize("platform", ["linux_armv7l-cp311", "linux_aarch64-cp313"])
def test_none_for_that_machine(platform: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=rf"packages for {platform}: .* {source} \(.*hard.*\); --wheels DIR"):
        download_wheels(["hard"], Platform.parse(platform), tmp_path, source)


@pytest.mark.accept
def test_an_environment_without_pip(source: Path, tmp_path: Path) -> None:
    """As uv makes them."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    code = "import sys\nfrom pathlib import Path\nfrom edgeq.device.wheels import Platform, download_wheels\n"
    code += "download_wheels(['hard'], Platform.parse('linux_aarch64-cp311'), *map(Path, sys.argv[1:]))"
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", code, tmp_path, source],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert names(sorted(tmp_path.glob("*.whl"))) == ["easy", "hard"]


def test_no_pip_and_no_way_to_one(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Debian without python3-venv."""

    def fail(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(1, ["python3"], b"/usr/bin/python3: No module named ensurepip\n")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(venv, "create", fail)
    with pytest.raises(DeviceError) as caught:
        download_wheels(["hard"], PI, tmp_path, source)
    message = str(caught.value)
    for part in ("needs pip", sys.executable, "No module named ensurepip", "uv pip install pip", "python3-venv"):
        assert part in message


def test_pip_that_does_not_work_is_heard(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says need not begin with ERROR."""
    (tmp_path / "pip.py").write_text("raise SystemExit('pip: out of order')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DeviceError, match="pip: out of order"):
        download_wheels(["hard"], PI, tmp_path, source)
