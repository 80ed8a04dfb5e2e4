"""The hosts that the page answers to.

The check prevents DNS rebinding: another site can make its own name resolve to 127.0.0.1, and then shares the page's
origin, but its requests still have that name in their ``Host`` header.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from werkzeug.sansio.utils import host_is_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Hosts", "address_of"]


class Hosts:
    """Host names, which Werkzeug compares, and IP addresses, of which it does not know the IPv6 ones.

    Parameters:
      hosts: Names and addresses without a port; a name with a leading dot includes its subdomains.
      any_address: Whether every IP address is trusted: another site's name cannot pass for one.

    Raises:
      TypeError: When ``hosts`` is a string, whose letters would be taken for names.
    """

    def __init__(self, hosts: Iterable[str], *, any_address: bool = False) -> None:
        if isinstance(hosts, str):
            raise TypeError(f"hosts is a list of names, not {hosts!r:.80}")
        addresses = {host: address_of(host) for host in hosts}
        self._names = [host.lower().rstrip(".") for host, address in addresses.items() if address is None]
        self._addresses = set(addresses.values()) - {None}
        self._any_address = any_address

    def __contains__(self, header: str) -> bool:
        """Say whether the value of a ``Host`` header is one of these hosts, with any port."""
        host = re.sub(r":\d*$", "", header.lower())
        address = address_of(host.removeprefix("[").removesuffix("]"))
        if address is not None:
            return self._any_address or address in self._addresses
        # Werkzeug trusts every host if the list is empty.
        return bool(self._names) and host_is_trusted(host.rstrip("."), self._names)


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that this is, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
