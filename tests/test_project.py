"""The files around the package: what they name exists, and the site has all there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

import edgeq

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_every_public_name_is_on_the_api_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^\.\. auto(?:function|class):: edgeq\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(edgeq.__all__) - {"__version__"})


def test_every_page_is_in_the_contents() -> None:
    listed = re.findall(r"^[a-z-]+$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index")


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "action.yml"], ids=lambda path: path.name)
def test_a_job_runs_scripts_that_exist(path: Path) -> None:
    scripts = re.findall(r"scripts/[a-z-]+", path.read_text())
    assert scripts
    assert all((ROOT / script).stat().st_mode & 0o111 for script in scripts)


def test_contributors_are_told_of_scripts_that_exist() -> None:
    scripts = re.findall(r"scripts/[a-z.-]+[a-z]", (ROOT / "CONTRIBUTING.md").read_text())
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def test_the_oldest_and_newest_pythons_are_tested() -> None:
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    (wanted,) = re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    (listed,) = re.findall(r"python: \[(.*)\]", workflow)
    assert listed == ", ".join(f'"3.{minor}"' for minor in range(int(wanted[0]), int(wanted[1])))
