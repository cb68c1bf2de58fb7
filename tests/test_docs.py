"""scripts/docs: the documentation site is built without a warning, with a page per command and public name."""

from __future__ import annotations

import subprocess

import click
import pytest
from conftest import ROOT

import edgeq
from edgeq.cli import cli


@pytest.mark.accept
def test_the_site_is_built_strictly() -> None:
    done = subprocess.run([ROOT / "scripts" / "docs"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = ROOT / "build" / "docs"
    api = (site / "api" / "index.html").read_text()
    names = [name for name in edgeq.__all__ if not name.startswith("_")]
    assert not [name for name in names if f'id="edgeq.{name}"' not in api]
    commands = (site / "commands" / "index.html").read_text()
    listed = cli.list_commands(click.Context(cli))
    assert len(listed) > 10
    assert not [name for name in listed if f"<h2>edgeq {name}<" not in commands]
