"""``edgeq device service``: run ``edgeq watch`` on a board as a service."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgeq.cli.help import Command, option, together
from edgeq.cli.progress import Progress
from edgeq.cli.values import Bytes
from edgeq.cli.watch import command as watch_command
from edgeq.device.device import Device
from edgeq.device.service import install_service, unit_name
from edgeq.device.setup import connected
from edgeq.watching.sources import CAMERA

__all__ = ["command"]

_SENT = ("model_path", "labels", "expect")  # options of edgeq watch that name a file on the host
_WATCHDOG_S = 120

_name_option = option("Service", "--name", default="watch", help="Name of the service, if a board has several.")
_json_option = option("Output", "--json", "as_json", is_flag=True, help="Print the result as JSON.")
_common = together(_name_option, _json_option)


@click.group("service")
def command() -> None:
    """Run edgeq watch on a board as a service, from boot on.

    Use it for a camera that watches for months. systemd runs edgeq watch with the permissions of the login, without
    root, and starts it again if it fails, hangs or needs too much memory.

    \b
    Examples:
      $ edgeq device service install pi@raspberrypi -- picamera -m m.tflite
      $ edgeq device service status pi@raspberrypi
      $ edgeq device service logs pi@raspberrypi
    """


@command.command("install", cls=Command)
@click.argument("host")
@click.argument("arguments", nargs=-1, required=True, metavar="-- SOURCE --model FILE [WATCH OPTIONS]")
@option("Service", "--memory", type=Bytes(), default="400MB", metavar="SIZE", help="Most memory that it may use.")
@_common
def install_command(host: str, arguments: tuple[str, ...], memory: int, name: str, as_json: bool) -> None:
    """Install edgeq watch as a service on a board, and start it.

    After -- come the arguments of edgeq watch. The model and the files of --labels and --expect are sent to the board.
    Other paths, such as that of --keep, are those of the board, relative to the home there. A service of the same name
    is replaced.

    A camera or stream that gives no result for two minutes is restarted.

    \b
    Examples:
      $ edgeq device service install pi@raspberrypi -- picamera -m m.tflite
      $ edgeq device service install kitchen -- picamera -m m.tflite --keep kept
      $ edgeq device service install kitchen --name door -- door/ -m d.tflite
    """
    unit_name(name)
    words = _words(arguments)
    with Progress() as progress, connected(host, progress) as device:
        done = install_service(device, name, words, memory_bytes=memory, watchdog_s=_watchdog_s(str(words[0])))
    if as_json:
        click.echo(json.dumps(asdict(done), indent=1))
        return
    click.echo(f"Installed {done.unit} and started it.")
    if not done.lingers:
        click.echo(f"It stops when {done.user} logs out. To run it from boot on, on the board: ", nl=False)
        click.echo(f"sudo loginctl enable-linger {done.user}")


@command.command("status", cls=Command)
@click.argument("host")
@_common
def status_command(host: str, name: str, as_json: bool) -> None:
    """Show whether the service runs, and how often it was restarted.

    Use it after an installation and from time to time. The state is that of systemd.

    \b
    Examples:
      $ edgeq device service status pi@raspberrypi
      $ edgeq device service status kitchen --name door
      $ edgeq device service status pi@raspberrypi --json
    """
    state: dict[str, Any] = _ask(host, "service_status", name)["state"]
    if as_json:
        click.echo(json.dumps(state, indent=1))
        return
    click.echo(
        f"{name}: {state.get('ActiveState')} ({state.get('SubState')}) since {state.get('ActiveEnterTimestamp')}"
    )
    memory = state.get("MemoryCurrent", "")
    click.echo(
        f"restarts: {state.get('NRestarts')}" + (f", memory: {int(memory) / 1e6:.0f} MB" if memory.isdigit() else "")
    )


@command.command("logs", cls=Command)
@click.argument("host")
@option("Service", "--lines", type=click.IntRange(1, 100_000), default=50, help="Number of lines.")
@_common
def logs_command(host: str, lines: int, name: str, as_json: bool) -> None:
    """Print what the service printed last: labels and errors.

    Use it to see what the camera saw, or why a service does not run. The lines are those of systemd's journal.

    \b
    Examples:
      $ edgeq device service logs pi@raspberrypi
      $ edgeq device service logs pi@raspberrypi --lines 1000 | grep cat
      $ edgeq device service logs kitchen --name door
    """
    text: str = _ask(host, "service_logs", name, lines=lines)["text"]
    click.echo(json.dumps({"lines": text.splitlines()}, indent=1) if as_json else text, nl=as_json)


@command.command("stop", cls=Command)
@click.argument("host")
@_common
def stop_command(host: str, name: str, as_json: bool) -> None:
    """Stop the service until the next boot.

    Use it to free the camera for a while. To start the service again, install it again.

    \b
    Examples:
      $ edgeq device service stop pi@raspberrypi
      $ edgeq device service stop kitchen --name door
      $ edgeq device service stop pi@raspberrypi --json
    """
    _ask(host, "stop_service", name)
    click.echo(json.dumps({"stopped": name}) if as_json else f"Stopped {name}.")


@command.command("remove", cls=Command)
@click.argument("host")
@_common
def remove_command(host: str, name: str, as_json: bool) -> None:
    """Stop the service and remove it from the board.

    Use it when the camera is no longer needed. The kept photos stay. Collect them with edgeq collect.

    \b
    Examples:
      $ edgeq device service remove pi@raspberrypi
      $ edgeq device service remove kitchen --name door
      $ edgeq device service remove pi@raspberrypi --json
    """
    _ask(host, "remove_service", name)
    click.echo(json.dumps({"removed": name}) if as_json else f"Removed {name}.")


def _ask(host: str, do: str, name: str, **request: Any) -> dict[str, Any]:
    unit = unit_name(name)
    with Device(host) as device:
        answer: dict[str, Any] = device.ask(do, name=unit, **request)[0]
    return answer


def _words(arguments: tuple[str, ...]) -> list[str | Path]:
    """Check the arguments of edgeq watch, and return them with the source first and files to send as paths.

    Raises:
        click.UsageError: an argument is invalid.
    """
    context = watch_command.make_context("edgeq watch", list(arguments))
    with context:
        given, _, _ = watch_command.make_parser(context).parse_args(list(arguments))
        words: list[str | Path] = [str(given["source"])]
        for parameter in watch_command.params:
            if isinstance(parameter, click.Option) and parameter.name in given:
                value = given[parameter.name]
                words.append(parameter.opts[0])
                if not parameter.is_flag:
                    words.append(Path(value) if parameter.name in _SENT else str(value))
    if given.get("host") is not None:
        raise click.UsageError("--on: the service watches on HOST; omit it")
    if words[0] == "-":
        raise click.UsageError("a service has no standard input; give another source")
    return words


def _watchdog_s(source: str) -> int | None:
    """Return how long a service may be without a result; None for a folder, into which photos may come rarely."""
    return _WATCHDOG_S if source == CAMERA or source.startswith("/dev/") or "://" in source else None
