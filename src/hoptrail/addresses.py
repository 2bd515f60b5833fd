"""Addresses as people write them: checked, and in one spelling."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_OWN_HOSTS = ("huggingface.co", "hf.space", "endpoints.huggingface.cloud")


def web_address(value: object) -> object:
    """Check an address and give it without its trailing slash."""
    if not isinstance(value, str) or not value:
        return value
    address = value.strip().strip("\"'").rstrip("/")
    if "@" in address:
        raise ValueError("an address must not hold a user name or password")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not an http:// or https:// address")
    if parts.port == 0 or parts.query or parts.fragment:  # asking for .port checks it
        raise ValueError("an address ends with its path and has a port from 1 to 65535")
    return address


def base_address(value: object) -> object:
    """Check an address and give it without ``/v1``, whichever way it was written."""
    address = web_address(value)
    if not isinstance(address, str):
        return address
    return re.sub(r"/v1(/chat/completions|/models)?$", "", address)


def is_own_host(url: str) -> bool:
    """Say whether ``url`` is one of Hugging Face's own hosts, reached over https."""
    host = host_of(url)
    own = any(host == name or host.endswith(f".{name}") for name in _OWN_HOSTS)
    return own and url.startswith("https://")


def host_of(url: object) -> str:
    """Give the host name in an address, or an empty text."""
    try:
        return (urlsplit(url.strip()).hostname or "") if isinstance(url, str) else ""
    except ValueError:
        return ""


def without_user(url: str) -> str:
    """Give an address as it may be shown: it may hold a password."""
    return re.sub(r"(?<=//)\S*@", "…@", url)


def server_of(url: str) -> str:
    """Give the ``host:port`` in an address, or an empty text."""
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}[parts.scheme]
        port = parts.port or usual
    except (ValueError, KeyError):
        return ""
    return f"{parts.hostname}:{port}" if parts.hostname else ""


def ollama_address(value: object) -> object:
    """Give the address that Ollama's own rules read from ``OLLAMA_HOST``.

    They are those of ``envconfig.Host`` in Ollama: the port is 11434 without a scheme, 80 and
    443 with one, and a bad port gives that default. A bind address becomes loopback, since a
    client cannot connect to "everywhere".
    """
    if not isinstance(value, str):
        return value
    if "@" in value:
        raise ValueError("an address must not hold a user name or password")
    scheme, host, port, default, path = ollama_parts(value)
    if scheme not in ("http", "https"):
        raise ValueError("it is not a host, host:port or http(s):// address")
    return f"{scheme}://{_client_host(host)}:{port if is_port(port) else default}{path}"


def ollama_parts(value: str) -> tuple[str, str, str, str, str]:
    """Split into scheme, host, port as written, default port, and path."""
    text = value.strip().strip("\"'").strip()
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = ("https", "ollama.com:443") if text == "ollama.com" else ("http", text)
    default = {"http": "80", "https": "443"}.get(scheme, "11434") if found else "11434"
    place, slash, path = rest.rstrip("/").partition("/")
    bare = place.removeprefix("[").removesuffix("]")
    if place.count(":") > 1 and (place == bare or place.endswith("]")):
        return scheme, bare, "", default, slash + path  # IPv6 without a port
    host, _, port = place.rpartition(":") if ":" in place else (place, "", "")
    return scheme, host.removeprefix("[").removesuffix("]"), port, default, slash + path


def is_port(text: str) -> bool:
    """Say whether a text is a port's number."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _client_host(host: str) -> str:
    """Give a host that a client can connect to, in brackets where it is IPv6."""
    try:
        address = ipaddress.ip_address(host or "127.0.0.1")
    except ValueError:
        if re.fullmatch(r"[\w.-]+", host):
            return host
        raise ValueError(f"{host!r} is not a host name or address") from None
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return str(address) if address.version == 4 else f"[{address}]"
