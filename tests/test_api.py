"""The package's top level: every job, and what type checkers see of it."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path

import edgeq as package

FOLDER = Path(package.__file__).parent
JOBS = {
    *("bench", "bundle", "classify", "compare", "compare_backends", "convert", "inspect", "refine", "summarize"),
    *("sweep", "synthesize_calibration", "train", "write_markdown", "write_report"),
}


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
