"""Where settings come from, and the only place that reads the environment.

Read here rather than with pydantic-settings, which would add about 170 ms to every command.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from itertools import chain
from pathlib import Path

import platformdirs
from dotenv import dotenv_values
from pydantic import SecretStr

from hoptrail.errors import SettingsError

_ENVIRONMENT = "environment"
_LARGEST_FILE = 64 * 1024
"""Bytes; a file of settings that is larger is none, and would be slow to read."""
_LONGEST_EXPANSION = 1024 * 1024
_LONGEST_SHOWN = 200
_EXPANDED = re.compile(r"\$\{([^}:]*)(?::-[^}]*)?\}")

Names = Mapping[str, tuple[str, ...]]
"""Each setting, with the variables that it is written in."""


@dataclass(frozen=True)
class Found:
    """One value, the name it was written under, and where."""

    value: object
    written: str
    place: str

    @property
    def origin(self) -> str:
        """What `origins` says: variables have several names, so the environment's is told."""
        return f"{self.place} {self.written}" if self.place == _ENVIRONMENT else self.place


@dataclass(frozen=True)
class Source:
    """What one place says: a value for some settings, and what of it cannot be used."""

    found: dict[str, Found]
    warnings: list[str] = field(default_factory=list)


def of_flags(flags: Mapping[str, object], names: Names) -> Source:
    """Give the settings that a caller names.

    Raises:
        TypeError: one is no setting.
    """
    for name in flags:
        if name not in names:
            raise TypeError(f"{name!r} is not a setting{_nearest(name, names)}")
    given = {name: value for name, value in flags.items() if value is not None}
    return Source({name: Found(value, name, "flag") for name, value in given.items()})


def of_environment(names: Names) -> list[Source]:
    """Give what the environment says, and ``.env`` in the working directory.

    Raises:
        SettingsError: ``.env`` cannot be read.
    """
    path = Path(".env")
    try:
        # A folder of that name is somebody's virtual environment.
        dotenv = _dotenv(_text_of(path)) if path.exists() and not path.is_dir() else {}
    except (OSError, ValueError) as error:
        raise SettingsError(f".env cannot be read: {error}. Save it as UTF-8 text.") from error
    return [_variables(os.environ, _ENVIRONMENT, names), _variables(dotenv, ".env", names)]


def _dotenv(text: str) -> dict[str, str | None]:
    """Read the variables; each ``${NAME}`` in one stands for an earlier one, or an environment's.

    Raises:
        ValueError: they would be longer than any settings: each can double the one before.
    """
    lengths: dict[str, int] = {}
    # Parsed for this only where it matters: what cannot be parsed is told each time.
    plain = dotenv_values(stream=StringIO(text), interpolate=False) if "${" in text else {}
    for name, value in plain.items():
        names = _EXPANDED.findall(value or "")
        used = (lengths.get(each, len(os.environ.get(each, ""))) for each in names)
        lengths[name] = len(value or "") + sum(used)
        if lengths[name] > _LONGEST_EXPANSION:
            raise ValueError(f"{name[:_LONGEST_SHOWN]} expands to more than a megabyte")
    return dotenv_values(stream=StringIO(text))


def _text_of(path: Path) -> str:
    """Read a file of settings.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8, or larger than any such file.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"it is larger than {_LARGEST_FILE // 1024} KiB")
    return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def _variables(held: Mapping[str, str | None], place: str, names: Names) -> Source:
    found: dict[str, Found] = {}
    for setting, written in names.items():
        for name in written:
            if (value := held.get(name) or "").strip():
                found[setting] = Found(value, name, place)
                break
    known = list(chain.from_iterable(names.values()))
    unknown = [name for name in held if name.startswith("HOPTRAIL_") and name not in known]
    return Source(found, [_is_no_setting(name, place, known) for name in unknown])


def of_files(names: Names) -> list[Source]:
    """Give what ``hoptrail.toml`` says, in the working directory and in the user's folder.

    Raises:
        SettingsError: one cannot be read.
    """
    folder = platformdirs.user_config_path("hoptrail")
    return [_toml(Path("hoptrail.toml"), names), _toml(folder / "hoptrail.toml", names)]


def _toml(path: Path, names: Names) -> Source:
    try:
        table = tomllib.loads(_text_of(path))
    except FileNotFoundError:
        return Source({})
    except RecursionError:
        raise SettingsError(f"{path} is nested too deeply. Correct or remove it.") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}. Correct or remove it.") from error
    known = list(names)
    found = {name: Found(table[name], name, str(path)) for name in known if name in table}
    unknown = [_is_no_setting(name, str(path), known) for name in table if name not in known]
    return Source(found, unknown)


def saved_login() -> SecretStr | None:
    """Read the token that `hf auth login` saved, where huggingface_hub would look for it."""
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    place = os.environ.get("HF_TOKEN_PATH") or f"{home}/token"
    try:
        path = Path(os.path.expandvars(place)).expanduser()
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    return SecretStr(token) if token else None


def _is_no_setting(name: str, place: str, known: Iterable[str]) -> str:
    return f"{cut(name)} ({place}) is not a setting{_nearest(cut(name), known)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]}?" if close else "."


def cut(text: str) -> str:
    """Give a text as a message can show it."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
