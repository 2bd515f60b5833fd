"""Settings: ``.env``, ``hoptrail.toml``, and the value of each variable."""

from __future__ import annotations

import os
import tempfile
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

from hoptrail.errors import SettingsError
from hoptrail.settings import load_settings, origins, variables

NAMES = tuple(dict.fromkeys(names[0] for names in variables().values()))
WORDS = (
    *NAMES, *variables(), "=", "\n", '"', "'", "${", "}", ":-", "#", "[", "]", "{", "nan", "inf",
    "-1", "http://", "https://", "@", "[::1]", ":99999", "~root/", "~nobody/", "1e400", "true",
    "local,hash",
)  # fmt: skip
SEEDS = (
    b"\0HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz\nHOPTRAIL_MAX_STEPS='5'\nA=${HF_TOKEN:-b}\n",
    b'\0OLLAMA_HOST=0.0.0.0:11434 # here\nexport HOPTRAIL_BACKENDS="ollama,extractive"\n',
    b'\1max_steps = 4\nbackends = ["ollama"]\ntemperature = 0.5\nhome = "~/x"\ntoken = "hf_x"\n',
    b"\1[max_steps]\na = 1979-05-27\n[[docs]]\nb = 1\n",
    *(bytes([2, number]) + b"http://u:p@[::1]:80/v1" for number in range(len(NAMES))),
)
_LONGEST_LINE = 800
_EMPTY = {"PATH": "", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}


def check(data: bytes) -> None:
    """Settings that can all be shown, or a short word on each that cannot be used."""
    kind, content = data[:1], data[1:]
    environment = dict(_EMPTY)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        if kind == b"\2" and content:
            value = content[1:].replace(b"\0", b"")
            environment[NAMES[content[0] % len(NAMES)]] = os.fsdecode(value)
        else:
            Path("hoptrail.toml" if kind == b"\1" else ".env").write_bytes(content)
        with patch.dict(os.environ, {**environment, "HOME": folder}, clear=True):
            try:
                settings = load_settings()
            except SettingsError as error:
                told = str(error)
            else:
                told = "\n".join(
                    each.value for each in origins(settings) if each.origin == "default"
                )
                settings.secrets.masked("a text")
                settings.token_for("https://huggingface.co")
    assert all(len(line) <= _LONGEST_LINE for line in told.splitlines())
