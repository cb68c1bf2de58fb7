"""The package's top level: every job, and what type checkers see of it."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgeq as package

FOLDER = Path(package.__file__).parent
JOBS = {"bench", "bundle", "compare", "convert", "inspect", "refine", "summarize", "train"}


def test_every_job_is_there() -> None:
    assert set(package.__all__) >= JOBS
    for name in JOBS:
        assert callable(getattr(package, name))


def test_names_stay_what_they_are_once_their_packages_are_loaded() -> None:
    """Loading ``edgeq.benchmark`` would put a module of that name where a function of the same name was."""
    subpackages = {module.name for module in pkgutil.iter_modules([str(FOLDER)])}
    assert not subpackages & set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is getattr(package, name)


def test_the_stub_has_the_same_names_from_the_same_places() -> None:
    stub = ast.parse((FOLDER / "__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    named = {alias.name: node.module for node in imports for alias in node.names}
    assert named == package._HOMES
    assert all(alias.asname == alias.name for node in imports for alias in node.names)  # else it is private in a stub
    assert set(package.__all__) == {*named, "__version__"}


def test_a_type_checker_sees_what_they_are(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "mine.py").write_text(
        "import edgeq\n\n"
        'path = edgeq.convert("my.keras", "int8").models["int8"].path\n'
        "share: str = edgeq.compare(path, path, path).agreement\n"
        "edgeq.no_such_name\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "mine.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"MYPYPATH": str(FOLDER.parent)}, capture_output=True, text=True, check=False
    )
    assert [line.rpartition("[")[2] for line in done.stdout.splitlines()] == ["assignment]", "attr-defined]"], done
