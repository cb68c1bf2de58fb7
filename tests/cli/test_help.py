"""Every command explains itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from conftest import ROOT, Finished

import edgeq as package
from cli import error_of
from edgeq.cli import cli

COMMANDS = [
    *("convert", "refine", "infer", "compare", "bench", "bundle"),
    *("inspect", "train", "summary", "calibrate", "device"),
]
INNER = ["calibrate synthesize", "device setup", "device info", "device remove"]
ONES_THAT_DO_SOMETHING = [*COMMANDS[:-2], *INNER]
Run = Callable[..., Finished]


def named(names: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a command line begins with, and what follows it."""
    command: click.Command = cli
    rest = list(names)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        inner = command.get_command(click.Context(command), rest.pop(0))
        assert inner is not None, names
        command = inner
    return command, rest


def test_these_are_all_commands() -> None:
    assert cli.list_commands(click.Context(cli)) == COMMANDS
    group, _ = named(["calibrate"])
    assert isinstance(group, click.Group)
    assert group.list_commands(click.Context(group)) == ["synthesize"]


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", ["", *COMMANDS, *INNER])
def test_help_has_examples(command: str, option: str, edgeq: Run) -> None:
    done = edgeq(*command.split(), option)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(['edgeq', *command.split()])} ")
    head, _, examples = done.out.partition("Examples:\n")
    assert head.count("\n") >= 3  # says what the command does before
    lines = [line for line in examples.split("\n\n")[0].splitlines() if line.strip()]
    assert len(lines) >= 3
    assert all("edgeq " in line for line in lines)


@pytest.mark.parametrize("command", ["", *COMMANDS, *INNER])
def test_examples_use_options_that_exist(command: str, edgeq: Run) -> None:
    text = edgeq(*command.split(), "--help").out
    examples = re.findall(r"edgeq (.*)", text.partition("Examples:")[2].partition("\n\n")[0])
    assert len(examples) >= 3
    for example in examples:
        used, words = named(example.split())
        known = {option for parameter in used.params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"--[a-z0-9-]+", " ".join(words))) <= known, example


@pytest.mark.parametrize("name", ONES_THAT_DO_SOMETHING)
def test_every_option_says_what_it_does(name: str) -> None:
    command, _ = named(name.split())
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert options
    assert [option.name for option in options if not option.help] == []


def test_the_overview_names_the_commands_and_the_exit_codes(edgeq: Run) -> None:
    done = edgeq("--help")
    for name in COMMANDS:
        assert re.search(rf"^  {name}  +\S", done.out, re.MULTILINE)
    assert "Exit codes: 0 done, 1 a limit of `edgeq compare` or a target of `edgeq" in done.out


def test_version(edgeq: Run) -> None:
    done = edgeq("--version")
    assert (done.code, done.out, done.err) == (0, f"edgeq, version {package.__version__}\n", "")


def test_without_a_command_it_shows_the_commands(edgeq: Run) -> None:
    done = edgeq()
    assert done.code == 2
    assert "Commands:" in done.out + done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["quantize"], "No such command 'quantize'", id="no-such-command"),
        pytest.param(["--verbose"], "No such option", id="no-such-option"),
        *[pytest.param([name, "--nonsense"], "No such option", id=f"{name}-no-such-option") for name in COMMANDS],
    ],
)
def test_wrong_usage(arguments: list[str], message: str, edgeq: Run) -> None:
    assert message in error_of(edgeq(*arguments))


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=["edgeq", *COMMANDS])
def test_help_does_not_wait_for_tensorflow(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edgeq", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"tensorflow", "keras", "matplotlib", "tflite_runtime", "ai_edge_litert"}
