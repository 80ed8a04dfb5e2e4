"""Under which names a page may be asked for.

A site that a browser is on can have its own name lead to 127.0.0.1, and then is, for the browser, where the page is.
It cannot make the browser say another name, so the name tells.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Hosts", "is_loopback", "named"]


class Hosts:
    """Some names, and the addresses that nobody can have his name pass for.

    Parameters:
      names: What the page may be called, without the port.
      addresses: Whether any IP address will do, as well.
    """

    def __init__(self, names: Iterable[str], *, addresses: bool = False) -> None:
        self._names = {name.lower().rstrip(".") for name in named(names)}
        self._addresses = addresses

    def know(self, host: str) -> bool:
        """Say whether this is one of them, as a browser says it: with the port, if that is not the usual one."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if urlsplit(f"//{host}").netloc != host or "@" in host:
            return False
        return name.rstrip(".") in self._names or (self._addresses and _is_address(name))


def named(names: Iterable[str]) -> list[str]:
    """Return some names.

    Raises:
      TypeError: When it is one, whose letters would be taken for names.
    """
    if isinstance(names, str):
        raise TypeError(f"hosts is a list of names, not {names!r:.80}")
    return list(names)


def is_loopback(address: str) -> bool:
    """Say whether an IP address is reached from this machine alone."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
