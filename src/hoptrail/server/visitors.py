"""Who may come in at all: checks of Host and Origin against pages that rebind a name.

A web page can make a name of its own point to this machine, and its reader's browser then talks
to this server. The browser tells that name as Host, and the page as Origin.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from hoptrail.errors import SettingsError
from hoptrail.server.problems import Refusal

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?"
_HOST = re.compile(rf"(?:\[[0-9A-Fa-f:.]+\]|{_NAME})(?::[0-9]{{1,5}})?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_FIX_HOST = "start the server with `--allow-host NAME`, or set HOPTRAIL_ALLOWED_HOSTS"
_FIX_ORIGIN = "start the server with `--allow-origin URL`, or set HOPTRAIL_ALLOWED_ORIGINS"


def is_loopback(host: str) -> bool:
    """Say whether a host, without its port, is this machine's own and nobody else's."""
    return host == "localhost" or _is_address(host, loopback=True)


class Visitors:
    """The hosts this server answers to, and the origins whose pages may call it.

    ``bound`` is the address it listens at. At a loopback address its own names are localhost
    and loopback addresses; elsewhere every address is, because only names can be rebound.

    Raises:
        SettingsError: one of the hosts or origins is none.
    """

    def __init__(self, bound: str, hosts: Collection[str], origins: Collection[str]) -> None:
        self._local = is_loopback(bound)
        self._hosts = frozenset(map(_host, hosts))
        self._origins = frozenset(map(_origin, origins))

    def check_host(self, given: list[bytes]) -> str:
        """Give the Host of a request, in lower case.

        Raises:
            Refusal: 400, there is none, or several, or it is none; 421, it is another server's.
        """
        text = given[0].decode("latin-1").lower() if len(given) == 1 else ""
        if not _HOST.fullmatch(text):
            raise Refusal(400, "the request needs one well-formed Host header")
        if not self._is_ours(_name(text)):
            raise Refusal(421, "this server does not answer to that Host", _FIX_HOST)
        return text

    def check_origin(self, given: list[bytes], host: str) -> None:
        """Let a page's request pass.

        Raises:
            Refusal: 403, its origin may not call this server.
        """
        if not given:
            return
        origin = given[0].decode("latin-1").lower()
        if len(given) > 1 or not self.allows(origin, host):
            raise Refusal(403, "pages of that origin may not call this server", _FIX_ORIGIN)

    def allows(self, origin: str, host: str) -> bool:
        """Say whether pages of an origin may call the server, which was reached at ``host``."""
        if origin in self._origins:
            return True
        scheme, _, place = origin.partition("://")
        if scheme not in ("http", "https") or not _HOST.fullmatch(place):
            return False
        return place == host or (self._local and is_loopback(_name(place)))

    def _is_ours(self, name: str) -> bool:
        own = is_loopback(name) if self._local else name == "localhost" or _is_address(name)
        return own or name in self._hosts


def _host(given: str) -> str:
    if not _HOST.fullmatch(given):
        raise SettingsError(
            f"{given!r} is no host name (--allow-host, HOPTRAIL_ALLOWED_HOSTS): write example.com"
        )
    return _name(given)


def _origin(given: str) -> str:
    origin = given.lower().rstrip("/")
    scheme, _, place = origin.partition("://")
    if not (_SCHEME.fullmatch(scheme) and _HOST.fullmatch(place)):
        raise SettingsError(
            f"{given!r} is no origin of web pages (--allow-origin, HOPTRAIL_ALLOWED_ORIGINS): "
            "write https://example.com"
        )
    return origin


def _name(host: str) -> str:
    """Give a host without port, brackets and final dot."""
    name = urlsplit(f"//{host.lower()}").hostname or ""
    return name.removesuffix(".")


def _is_address(host: str, *, loopback: bool = False) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or not loopback
