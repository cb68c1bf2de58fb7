"""Where the page is served: an address as the user writes it, and the sockets that listen there."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from edgeq.errors import InputError

__all__ = ["Address", "listen", "parse_address"]

_LOOPBACK = "127.0.0.1"
_EVERYWHERE = ("0.0.0.0", "::")
_BACKLOG = 128
_ELSEWHERE = ("192.0.2.1", 9)  # of no machine (RFC 5737); nothing is sent to it


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Attributes:
        host: a name or an IP address of this machine.
        port: the TCP port; 0 for any free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect. Other names than localhost count as reachable."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def reachable(self) -> Address:
        """The address to open in a browser: for all of this machine's addresses, the one of its network."""
        if self.host not in _EVERYWHERE:
            return self
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
            probe.connect(_ELSEWHERE)
            return Address(str(probe.getsockname()[0]), self.port)
        return Address(socket.gethostname(), self.port)


def parse_address(text: str) -> Address:
    """Read ``[HOST:]PORT``. Without a host, the page is served to this machine alone.

    Raises:
        InputError: the text is no such address.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InputError(f"{text}: not an address; write an IPv6 address in brackets, such as [::1]:8000")
    if (colon and not host) or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InputError(f"{text}: not an address; give a port from 1 to 65535, or HOST:PORT, such as 0.0.0.0:8000")
    return Address(host or _LOOPBACK, int(port))


def listen(address: Address) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        InputError: this machine cannot listen there; the message says why.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise InputError(f"{address}: no such host; give a name or an IP address of this machine") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise InputError(f"{address}: {_reason(error, address)}") from None
    return listener


def _reason(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; choose another one"
    if error.errno == errno.EACCES and address.port < 1024:
        return "ports below 1024 need special rights; choose another one, such as 8000"
    if error.errno == errno.EADDRNOTAVAIL:
        return "not an address of this machine; 0.0.0.0 stands for all of them"
    return error.strerror or str(error)
