"""``edgeq device``: other machines that models run on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from edgeq.cli.progress import Progress
from edgeq.device.address import Address
from edgeq.device.device import Device
from edgeq.device.setup import remove, send_code, set_up
from edgeq.report import size
from edgeq.report.benchmark import machine_line, machine_notes

__all__ = ["command"]


@click.group("device")
def command() -> None:
    """Set up, look at or clean up a device that models run on over SSH, such as a Raspberry Pi.

    HOST is [user@]host[:port], as ssh takes it: ~/.ssh/config, keys, agent and jumps are honoured, and a host key
    that is not known is refused. Nothing needs more rights than the login has.

    \b
    Examples:
      edgeq device setup pi@raspberrypi
      edgeq device info pi@raspberrypi
      edgeq device remove pi@raspberrypi
    """


@command.command("setup")
@click.argument("host")
@click.option(
    "--wheels",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of wheels to take the packages from. Default: this machine fetches them; the device needs no network.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def setup_command(host: str, wheels: Path | None, as_json: bool) -> None:
    """Put the packages and the edgeq that run models on a device, below its ~/.local/share/edgeq.

    Checks architecture, Python, glibc and space first, and installs the runtime that fits: tflite-runtime up to
    Python 3.11, ai-edge-litert above. What is there already stays. The other commands do the same when they need to.

    \b
    Examples:
      edgeq device setup pi@raspberrypi
      edgeq device setup pi@10.0.0.7:2222 --wheels wheels/
      edgeq device setup kitchen              # of ~/.ssh/config
    """
    with Progress() as progress, Device(Address.parse(host), progress) as device:
        done = set_up(device, wheels)
        machine = device.machine()
    if as_json:
        click.echo(json.dumps(asdict(done), indent=1))
        return
    click.echo(machine_line(machine))
    runtimes = ", ".join(f"{name} {version}" for name, version in machine.runtimes.items())
    what = f"Installed {len(done.installed)} packages" if done.installed else "Everything is there already"
    click.echo(f"{what}, in {done.home}: runs models under {runtimes}.")


@command.command("info")
@click.argument("host")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--verbose", is_flag=True, help="Also what the device does not tell.")
def info_command(host: str, as_json: bool, verbose: bool) -> None:
    """Show what a device is and how it is doing: board, memory, clock, temperature, throttling, runtimes.

    \b
    Examples:
      edgeq device info pi@raspberrypi
      edgeq device info pi@raspberrypi --json
      edgeq device info kitchen | grep temperature
    """
    with Progress() as progress, Device(Address.parse(host), progress) as device:
        send_code(device, (device.probe()["installed"] or {}).get("code"))
        machine = device.machine()
    if as_json:
        click.echo(json.dumps(machine.to_json(), indent=1))
        return
    facts = machine.to_json()
    for name in ("memory_bytes", "available_bytes"):
        facts[name] = facts[name] and f"{facts[name] / 1e9:.1f} GB"
    runtimes = ", ".join(f"{name} {version}" for name, version in machine.runtimes.items())
    facts["runtimes"] = runtimes or "none yet (edgeq device setup)"
    facts["features"] = " ".join(machine.features)
    if machine.throttling is not None:
        facts["throttling"] = ", ".join(machine.throttling) or "none"
    for name, value in facts.items():
        if verbose or value:
            click.echo(f"{name.removesuffix('_bytes').replace('_', ' '):<13} {value or '-'}")
    for note in machine_notes(machine):
        click.echo(f"Note: {note}.")


@command.command("remove")
@click.argument("host")
@click.option("--json", "as_json", is_flag=True, help="Print how much was deleted as JSON.")
def remove_command(host: str, as_json: bool) -> None:
    """Delete everything that edgeq ever put on a device: packages, models, photos.

    \b
    Examples:
      edgeq device remove pi@raspberrypi
      edgeq device remove pi@10.0.0.7:2222
      edgeq device remove kitchen
    """
    with Device(Address.parse(host)) as device:
        freed = remove(device)
    click.echo(json.dumps({"bytes": freed}) if as_json else f"Deleted {size(freed)}.")
