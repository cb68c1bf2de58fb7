"""The page as an object: opened, shown what was observed, and closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from edgeq.errors import EdgeqError
from edgeq.execution.machine import read_throttling
from edgeq.watching.expected import Expected
from edgeq.watching.observed import Interruption, Observed
from edgeq.watching.web.access import Access
from edgeq.watching.web.address import Address, listen, parse_address
from edgeq.watching.web.state import PhotoKeeper, WatchState

if TYPE_CHECKING:
    from edgeq.watching.web.server import Server

__all__ = ["WatchPage"]


class WatchPage:
    """A page on which browsers see live what is watched.

    It is served on a separate thread, between ``with`` and its end. Viewers never slow the calling thread: they get the
    newest result when they are ready for it.

    Attributes:
        url: the address to open in a browser, with the token if one is needed. Known inside ``with``.

    Example:
        >>> with edgeq.WatchPage("8000", model.labels) as page:
        ...     print(page.url)
        ...     for seen in edgeq.watch("picamera", model):
        ...         page.show(seen)
    """

    def __init__(
        self,
        address: str,
        labels: Sequence[str] = (),
        *,
        model: str = "",
        source: str = "",
        keeper: PhotoKeeper | None = None,
        throttling: Callable[[], tuple[str, ...] | None] = read_throttling,
        expected: Expected | None = None,
    ) -> None:
        """Prepare the page; ``with`` opens it.

        Args:
            address: ``[HOST:]PORT``. Without a host, only this machine can connect. A page that other machines can
                reach needs a token.
            labels: the model's labels, from which a person may choose.
            model: the model's name on the page.
            source: the source's name on the page.
            keeper: what keeps photos; None if the page shall not offer that.
            throttling: returns the power and heat problems of the machine that watches; None if unknown.
            expected: what the model predicted on photos, see `edgeq.watching.read_expected`; shown beside what is seen.

        Raises:
            InputError: `address` is no address.
            EdgeqError: Tornado is not installed.
        """
        try:
            from edgeq.watching.web import server
        except ImportError:
            raise EdgeqError(
                "the page needs Tornado, which is not installed: pip install 'edgeq[web]'; for a board: "
                "edgeq device setup HOST --with web"
            ) from None
        self.url = ""
        self._server_type = server.Server
        self._address, self._keeper, self._throttling = parse_address(address), keeper, throttling
        self._state = WatchState(model, source, labels, keeps_photos=keeper is not None, expected=expected)
        self._server: Server | None = None

    def __enter__(self) -> WatchPage:
        """Open the page.

        Raises:
            InputError: this machine cannot listen at the address.
        """
        listener = listen(self._address)
        address = Address(self._address.host, listener.getsockname()[1])
        access = Access(address)
        self._server = self._server_type(listener, self._state, access, self._keeper, self._throttling)
        self.url = f"http://{address.reachable}/" + (f"?token={access.token}" if access.token else "")
        return self

    def show(self, item: Observed | Interruption) -> None:
        """Show a result or an interruption. Returns at once."""
        self._state.add(item)
        if self._server is not None:
            self._server.change()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the page, and the connections of its viewers."""
        if self._server is not None:
            self._server.close()
            self._server = None
