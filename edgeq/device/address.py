"""Parse the addresses of devices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeq.errors import InputError

__all__ = ["Address"]

_FORM = re.compile(
    r"(?:(?P<user>[\w.$][\w.$-]*)@)?(?:\[(?P<literal>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[\w.][\w.-]*))(?::(?P<port>\d{1,5}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Address:
    """The address of a device.

    Attributes:
        host: a host name, a name in ``~/.ssh/config``, or an IP address.
        user: user name to log in with; None to use ssh's default.
        port: port to connect to; None to use ssh's default.
    """

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse ``[user@]host[:port]``. An IPv6 address with a user or a port must be in brackets.

        Raises:
            InputError: the text does not have this form. No text that ssh could mistake for an option has it.
        """
        found = _FORM.fullmatch(text)
        if not found and re.fullmatch(r"[0-9A-Fa-f:.]+:[0-9A-Fa-f:.]*", text):
            return cls(text)
        port = int(found["port"]) if found and found["port"] else None
        if not found or (port is not None and not 0 < port < 1 << 16):
            raise InputError(f"device {text!r}: must be [user@]host[:port], such as pi@raspberrypi or pi@10.0.0.7:2222")
        return cls(found["literal"] or found["host"], found["user"], port)

    @property
    def arguments(self) -> list[str]:
        """The command-line arguments for ssh."""
        user = ["-l", self.user] if self.user else []
        port = ["-p", str(self.port)] if self.port else []
        return [*user, *port, "--", self.host]
