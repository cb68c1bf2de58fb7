"""``edgeq device``: set up, inspect and clean up boards."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from edgeq.cli.help import Command, option
from edgeq.cli.progress import Progress
from edgeq.cli.service import command as service_command
from edgeq.cli.values import ListOf
from edgeq.device.device import Device
from edgeq.device.setup import remove, send_code, set_up
from edgeq.device.wheels import EXTRAS
from edgeq.report.benchmark import machine_line, machine_notes
from edgeq.report.tables import size

__all__ = ["command"]


@click.group("device")
def command() -> None:
    """Set up, inspect or clean up a board on which models run.

    Use it for a Raspberry Pi or another Linux board, over SSH. HOST is [user@]host[:port]. edgeq uses your SSH
    configuration, keys, agent and jump hosts. It rejects unknown host keys. It needs no root access.

    \b
    Examples:
      $ edgeq device setup pi@raspberrypi
      $ edgeq device info pi@raspberrypi
      $ edgeq device service install pi@raspberrypi -- picamera -m m.tflite
      $ edgeq device remove pi@raspberrypi
    """


command.add_command(service_command)


@command.command("setup", cls=Command)
@click.argument("host")
@option(
    "Input",
    "--wheels",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    show_default="download them on the host",
    help="Folder with the wheels to install. The board itself needs no network.",
)
@option(
    "Input",
    "--with",
    "extras",
    type=ListOf(click.Choice(list(EXTRAS))),
    default=(),
    metavar="EXTRAS",
    help="Further packages for edgeq watch, separated by commas: camera (PyAV, for V4L2 cameras, video files and "
    "RTSP), web (Tornado, for the page).",
)
@option("Output", "--json", "as_json", is_flag=True, help="Print the result as JSON.")
def setup_command(host: str, wheels: Path | None, extras: tuple[str, ...], as_json: bool) -> None:
    """Install a runtime and edgeq on a board.

    Use it to prepare a board or to check whether edgeq supports it. The other commands do this themselves if needed.
    edgeq checks the architecture, Python, glibc and free disk space. Then it installs into ~/.local/share/edgeq:
    tflite-runtime up to Python 3.11, ai-edge-litert for newer versions. It keeps packages that are already installed,
    also those of --with.

    \b
    Examples:
      $ edgeq device setup pi@raspberrypi
      ...
      Installed 4 packages in /home/pi/.local/share/edgeq.
      Runtime: tflite-runtime 2.14.0.
      $ edgeq device setup pi@10.0.0.7:2222 --wheels wheels/
      $ edgeq device setup pi@raspberrypi --with camera,web
      $ edgeq device setup kitchen    # an alias in ~/.ssh/config
    """
    with Progress() as progress, Device(host, progress) as device:
        done = set_up(device, wheels, extras)
        machine = device.machine()
    if as_json:
        click.echo(json.dumps(asdict(done), indent=1))
        return
    click.echo(machine_line(machine))
    runtimes = ", ".join(f"{name} {version}" for name, version in machine.runtimes.items())
    what = f"Installed {len(done.installed)} packages" if done.installed else "Everything is already installed"
    click.echo(f"{what} in {done.home}. Runtime: {runtimes}.")


@command.command("info", cls=Command)
@click.argument("host")
@option("Output", "--json", "as_json", is_flag=True, help="Print everything as JSON.")
@option("Output", "--verbose", is_flag=True, help="Also print the fields that the board does not report.")
def info_command(host: str, as_json: bool, verbose: bool) -> None:
    """Show a board's hardware, state and runtimes.

    Use it before you measure. It shows the hardware, memory, CPU frequency governor, temperature, throttling and
    installed runtimes.

    \b
    Examples:
      $ edgeq device info pi@raspberrypi
      $ edgeq device info pi@raspberrypi --json
      $ edgeq device info kitchen | grep temperature
    """
    with Progress() as progress, Device(host, progress) as device:
        send_code(device, (device.probe()["installed"] or {}).get("code"))
        machine = device.machine()
    if as_json:
        click.echo(json.dumps(machine.to_json(), indent=1))
        return
    facts = machine.to_json()
    for name in ("memory_bytes", "available_bytes"):
        facts[name] = facts[name] and f"{facts[name] / 1e9:.1f} GB"
    runtimes = ", ".join(f"{name} {version}" for name, version in machine.runtimes.items())
    facts["runtimes"] = runtimes or "none (run edgeq device setup)"
    facts["features"] = " ".join(machine.features)
    if machine.throttling is not None:
        facts["throttling"] = ", ".join(machine.throttling) or "none"
    for name, value in facts.items():
        if verbose or value:
            click.echo(f"{name.removesuffix('_bytes').replace('_', ' '):<13} {value or '-'}")
    for note in machine_notes(machine):
        click.echo(f"Note: {note}.")


@command.command("remove", cls=Command)
@click.argument("host")
@option("Output", "--json", "as_json", is_flag=True, help="Print the number of bytes deleted as JSON.")
def remove_command(host: str, as_json: bool) -> None:
    """Delete everything that edgeq put on a board.

    Use it if you no longer need the board. It deletes the packages, models and photos in ~/.local/share/edgeq, and the
    services. Photos that a service kept elsewhere stay.

    \b
    Examples:
      $ edgeq device remove pi@raspberrypi
      $ edgeq device remove pi@10.0.0.7:2222
      $ edgeq device remove kitchen
    """
    with Device(host) as device:
        freed = remove(device)
    click.echo(json.dumps({"bytes": freed}) if as_json else f"Deleted {size(freed)}.")
