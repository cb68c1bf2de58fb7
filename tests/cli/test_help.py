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
from edgeq.cli.help import OTHER, Command, Option

COMMANDS = [
    *("convert", "refine", "train", "sweep", "calibrate", "summary"),
    *("infer", "watch", "collect", "compare", "bench", "inspect", "device", "bundle"),
]
SERVICE = [f"device service {name}" for name in ("install", "status", "logs", "stop", "remove")]
INNER = ["calibrate synthesize", "device setup", "device info", "device remove", *SERVICE]
LEAVES = [name for name in COMMANDS if name not in {"calibrate", "device"}] + INNER
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


def examples_in(text: str) -> list[str]:
    """The command lines of edgeq among a help's examples, without "edgeq"."""
    return re.findall(r"^ +\$ (?:.*\| )?edgeq (.*)", text.partition("Examples:\n")[2], re.MULTILINE)


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", ["", *COMMANDS, "device service", *INNER])
def test_help_has_examples(command: str, option: str, edgeq: Run) -> None:
    done = edgeq(*command.split(), option)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(['edgeq', *command.split()])} ")
    before = done.out.partition("Examples:\n")[0]
    assert before.count("\n") >= 3  # what the command does, and when to use it
    assert len(examples_in(done.out)) >= 3


@pytest.mark.parametrize("command", ["", *COMMANDS, "device service", *INNER])
def test_examples_use_options_that_exist(command: str, edgeq: Run) -> None:
    for example in examples_in(edgeq(*command.split(), "--help").out):
        line, _, arguments_of_watch = example.partition(" -- ")
        assert not arguments_of_watch or set(re.findall(r" --?[a-z-]+", arguments_of_watch)) <= {" -m", " --keep"}
        used, words = named(line.split())
        known = {option for parameter in used.params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"--[a-z0-9-]+", " ".join(words))) <= known, example


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_has_a_group_and_a_help_text(name: str) -> None:
    command, _ = named(name.split())
    assert isinstance(command, Command)
    options = [parameter for parameter in command.params if not isinstance(parameter, click.Argument)]
    assert options
    for option in options:
        assert isinstance(option, Option), option.name
        assert option.group != OTHER, option.name
        assert option.help, option.name
        assert option.help.endswith("."), option.name


@pytest.mark.parametrize("name", LEAVES)
def test_help_shows_every_option_under_its_group(name: str, edgeq: Run) -> None:
    command, _ = named(name.split())
    text = edgeq(*name.split(), "--help").out
    sections = dict(re.findall(r"^([A-Z][\w ]+):\n((?:  .*\n)+)", text, re.MULTILINE))
    for option in command.params:
        if isinstance(option, Option):
            assert re.search(rf"^  .*{option.opts[0]}\b", sections[option.group], re.MULTILINE), option.name
    assert list(sections)[-1] == OTHER
    assert "--help" in sections[OTHER]


@pytest.mark.parametrize("name", [*COMMANDS, *INNER])
def test_no_line_of_help_is_wider_than_a_terminal(name: str, edgeq: Run) -> None:
    text = edgeq(*name.split(), "--help").out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "\u2011" not in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (click.IntRange(10), "default: 20; at least 10"),
        (click.IntRange(0), "default: 20"),
        (click.FloatRange(0, 1, min_open=True), "default: 20; above 0, at most 1"),
        (click.FloatRange(-1, 1, max_open=True), "default: 20; at least -1, below 1"),
    ],
    ids=["minimum", "zero", "above", "below"],
)
def test_defaults_and_ranges_in_words(kind: click.ParamType, words: str) -> None:
    record = Option(["--size"], type=kind, default=20, help="Size.").get_help_record(click.Context(cli))
    assert record is not None
    assert record[1] == f"Size.  [{words}]"


def test_the_overview_has_one_whole_line_per_command(edgeq: Run) -> None:
    lines = edgeq("--help").out.splitlines()
    for name in COMMANDS:
        command, _ = named([name])
        sentence = command.get_short_help_str(limit=200)
        assert sentence.endswith(".")
        assert f"  {name:<9}  {sentence}" in lines
    for name in ("calibrate", "device"):
        assert "..." not in edgeq(name, "--help").out.partition("Commands:")[2]


def test_the_overview_names_the_exit_codes(edgeq: Run) -> None:
    codes = edgeq("--help").out.partition("Exit codes:\n")[2]
    assert re.findall(r"^ +(\d)  \S", codes, re.MULTILINE) == ["0", "1", "2"]


def test_version(edgeq: Run) -> None:
    done = edgeq("--version")
    assert (done.code, done.out, done.err) == (0, f"edgeq, version {package.__version__}\n", "")


def test_without_a_command_it_shows_the_commands(edgeq: Run) -> None:
    done = edgeq()
    assert done.code == 2
    assert "Usage: edgeq" in done.out + done.err
    assert all(name in done.out + done.err for name in COMMANDS)


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
