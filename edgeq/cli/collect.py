"""``edgeq collect``: fetch the photos that a camera kept, and sort them."""

from __future__ import annotations

import json
import shutil
from typing import Any

import click

from edgeq.cli.help import Command, option
from edgeq.cli.options import FiniteRange
from edgeq.cli.output import complain
from edgeq.cli.progress import Progress
from edgeq.collecting import collect
from edgeq.errors import EXIT_ERROR
from edgeq.report.collecting import collection_lines

__all__ = ["command"]


@click.command("collect", cls=Command)
@click.argument("source")
@click.argument("out", metavar="DIR")
@option(
    "Photos",
    "--evaluation",
    type=FiniteRange(0, 1),
    show_default="that of the first run, which is 0.2 unless given",
    help="Share of the labelled photos to hold out for edgeq compare. Photos are split by time, in blocks of 30 "
    "minutes.",
)
@option("Photos", "--remove", is_flag=True, help="Remove the photos from SOURCE once they are safely in DIR.")
@option("Output", "--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(source: str, out: str, as_json: bool, **settings: Any) -> None:
    """Fetch the photos that edgeq watch kept, and sort them.

    SOURCE is [user@]host[:port]:DIR on a board, or a folder on this machine. Photos that a person labelled go to
    DIR/training/CLASS and DIR/evaluation/CLASS. All others go to DIR/unlabelled, which is good for calibration and
    agreement, and never for accuracy.

    Only new photos are fetched. A photo that you moved or deleted in DIR is not fetched again. Every photo is checked
    against its SHA-256 digest. An interrupted run can be repeated.

    \b
    Examples:
      $ edgeq collect pi@raspberrypi:kept photos/
      $ edgeq collect pi@10.0.0.7:2222:/data/kept photos/ --remove
      $ edgeq collect kept/ photos/ --evaluation 0.3
    """
    with Progress() as progress:
        found = collect(source, out, progress=progress, **settings)
    for problem in found.problems:
        complain(f"{source}: {problem}", "Warning")
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        click.echo("\n".join(collection_lines(found, shutil.get_terminal_size().columns)))
    if found.problems:
        click.get_current_context().exit(EXIT_ERROR)
