"""Who may use the page.

- **Host.** A page elsewhere can let its own name point to this machine (DNS rebinding), but the browser then sends that
  name. Only this machine's names, and IP addresses, are served.
- **Origin.** A page elsewhere can send requests, but the browser then sends that page's origin. Only the page itself
  may change anything, and nothing is loaded into other pages.
- **Token.** Where other machines can connect, a request needs the token: in the page's address, which moves it into a
  cookie, or in the header ``Authorization: Bearer``.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from edgeq.watching.web.address import Address

__all__ = ["Access"]

_SCHEME = "Bearer "
_TOKEN_BYTES = 24


class Access:
    """Decides about requests.

    Attributes:
        token: what a request must know; None if only this machine can connect.
        cookie: name of the cookie for the token. It contains the port, because browsers send cookies to all ports.
    """

    def __init__(self, address: Address) -> None:
        """Make a new token, unless only this machine can connect.

        Args:
            address: where the page is served, with its final port.
        """
        self.token = None if address.is_loopback else secrets.token_urlsafe(_TOKEN_BYTES)
        self.cookie = f"edgeq_{address.port}"
        self._names = {"localhost", address.host.lower()}
        self._short_name = socket.gethostname().lower().partition(".")[0]

    def refusal(self, headers: Mapping[str, str], changes: bool) -> str | None:
        """Return why a request is refused even with the token, or None.

        Args:
            headers: the request's headers; looking one up must not depend on capitals.
            changes: whether the request changes something.
        """
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if not self._is_ours(host):
            return "the header Host is not a name of this machine"
        if (changes or origin is not None) and origin != f"http://{host}":
            return "the header Origin is not this page's"
        elsewhere = headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if elsewhere and headers.get("Sec-Fetch-Mode") != "navigate":
            return "a page elsewhere asked for this"
        return None

    def knows_token(self, *candidates: str | None) -> bool:
        """Return whether a token is right, or none is needed. Takes the same time wherever it differs."""
        if self.token is None:
            return True
        right = [secrets.compare_digest(each.encode(), self.token.encode()) for each in candidates if each]
        return any(right)

    @staticmethod
    def bearer(headers: Mapping[str, str]) -> str | None:
        """Return the token in the header Authorization, or None."""
        value = headers.get("Authorization", "")
        return value.removeprefix(_SCHEME) if value.startswith(_SCHEME) else None

    def _is_ours(self, host: str) -> bool:
        """Return whether a header Host names this machine. The port does not matter: a tunnel may change it."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        if self.token is not None and name.partition(".")[0] == self._short_name:
            return True  # such as pi.local or pi.lan; a page elsewhere does not know the token
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self.token is not None or address.is_loopback
