"""Options of ``edgeq watch`` that keep photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.help import option, together
from edgeq.cli.options import FiniteRange
from edgeq.cli.output import complain, refuse_given
from edgeq.cli.values import Bytes, Duration
from edgeq.watching import Interruption, Keeper, Observed

if TYPE_CHECKING:
    from edgeq.watching.board import BoardKeeper

__all__ = ["Keeping", "keep_options", "take_keep_options"]

_RULES = ("keep_below", "keep_every", "keep_changed")
_LIMITS = ("keep_limit", "keep_free")

keep_options = together(
    option(
        "Photos",
        "--keep",
        "keep_folder",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Keep photos in DIR that are worth a label, by the rules that follow. edgeq collect sorts them. With "
        "--on, DIR is a folder of the board.",
    ),
    option(
        "Photos",
        "--keep-below",
        type=FiniteRange(0, 1),
        help="Keep frames whose average probability is below this, at most one per second.",
    ),
    option("Photos", "--keep-every", type=Duration(), metavar="TIME", help="Keep one frame per TIME, such as 10m."),
    option("Photos", "--keep-changed", is_flag=True, help="Keep the first frame of each new label."),
    option(
        "Photos",
        "--keep-limit",
        type=Bytes(),
        default="1GB",
        metavar="SIZE",
        help="Largest size of DIR. At the limit, the oldest photos without a person's label are removed.",
    ),
    option("Photos", "--keep-free", type=Bytes(), default="500MB", metavar="SIZE", help="Disk space to leave free."),
)
"""--keep and what belongs to it."""


def take_keep_options(options: dict[str, Any]) -> dict[str, Any] | None:
    """Take the options of `keep_options` out of `options`; return arguments of `Keeper`, or None without --keep."""
    given = {name: options.pop(name) for name in ("keep_folder", *_RULES, *_LIMITS)}
    if given["keep_folder"] is None:
        refuse_given((*_RULES, *_LIMITS), "needs --keep")
        return None
    return {
        "folder": str(given["keep_folder"]),
        "below": given["keep_below"],
        "every_s": given["keep_every"],
        "changed": given["keep_changed"],
        "limit_bytes": given["keep_limit"],
        "free_bytes": given["keep_free"],
    }


class Keeping:
    """Offers frames to a keeper, if there is one. Says once on stderr when it pauses or continues."""

    def __init__(self, keeper: Keeper | BoardKeeper | None) -> None:
        self.keeper, self._paused = keeper, False

    def offer(self, seen: Observed | Interruption) -> Path | None:
        """Keep the frame if the rules say so; return the photo's path if it was kept."""
        if self.keeper is None:
            return None
        photo = self.keeper.offer(seen)
        if self.keeper.paused and not self._paused:
            complain(f"{self.keeper.paused}. No photos are kept until this is solved. Watching continues.", "Warning")
        if self._paused and not self.keeper.paused:
            click.echo(f"{self.keeper.folder}: photos are kept again.", err=True)
        self._paused = self.keeper.paused is not None
        return photo
