"""How users name devices, and what can never become an option of ssh."""

from __future__ import annotations

import pytest

from edgeq.device.address import Address
from edgeq.errors import InputError


@pytest.mark.parametrize(
    ("text", "host", "user", "port"),
    [
        ("raspberrypi", "raspberrypi", None, None),
        ("pi@raspberrypi.local", "raspberrypi.local", "pi", None),
        ("pi@10.0.0.7:2222", "10.0.0.7", "pi", 2222),
        ("pi@[fe80::1%eth0]:22", "fe80::1%eth0", "pi", 22),
        ("::1", "::1", None, None),
        ("first.last@my-pi_2", "my-pi_2", "first.last", None),
    ],
)
def test_addresses(text: str, host: str, user: str | None, port: int | None) -> None:
    found = Address.parse(text)
    assert (found.host, found.user, found.port) == (host, user, port)
    assert found.arguments[-2:] == ["--", host]
    assert Address.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "-oProxyCommand=touch x", "pi@", "pi@-x", "-x@pi", "pi@host:", "pi@host:0", "pi@host:99999", "a b", "$(x)"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError, match="must be"):
        Address.parse(text)
