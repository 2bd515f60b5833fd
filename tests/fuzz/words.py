"""What is written on a command line or into a fork's body: changes, moments, models, addresses."""

from __future__ import annotations

from datetime import datetime

import click
from langchain_core.tools import ToolException
from pydantic import ValidationError

from hoptrail.addresses import host_of, ollama_address, server_of, web_address, without_user
from hoptrail.change import Change
from hoptrail.cli.choice import ModelName
from hoptrail.cli.moment import Moment
from hoptrail.tools import calculator, date_difference

WORDS = (
    '{"step": 1, "answer": "', '"}', '"question": "', '"pinned": ["', '"], "banned": ["',
    "\\ud800", "ollama:qwen3:8b", "2h", "3d", "999999w", "2026-11-22", "T09:15", "0001-01-01",
    "9999-12-31", "Z", "+23:59", "http://", "[::1]", ":0", "@", "٣", "%", "(", "**", "9", "days",
)  # fmt: skip
SEEDS = (
    b'{"step": 1, "answer": "Prague"}',
    b'{"question": "Who?", "model": "ollama:qwen3:8b", "pinned": ["a#1"], "banned": ["b#1"]}',
    b"2h",
    b"2026-11-22T09:15",
    b"https://router.huggingface.co/v1",
    b"0.0.0.0:11434",
    b"(1 + 2) ** 3 % 4",
)


def check(data: bytes) -> None:
    """Each is read, or refused by the error that its reader declares."""
    text = data.decode("utf-8", "surrogateescape")
    _check_change(data)
    for kind in (Moment(), ModelName()):
        try:
            read = kind.convert(text, None, None)
        except click.BadParameter:
            continue
        assert isinstance(read, tuple) or (isinstance(read, datetime) and read.tzinfo)
    for address in (web_address, ollama_address):
        try:
            assert isinstance(address(text), str)
        except ValueError:
            continue
    assert isinstance(host_of(text) + server_of(text) + without_user(text), str)
    for called in ({"expression": text}, {"start": text[:10], "end": text[10:]}):
        tool = calculator if "expression" in called else date_difference
        try:
            said = str(tool.invoke(called))
        except ToolException as error:
            said = str(error)
        assert 0 < len(said) <= len(text) + 500


def _check_change(data: bytes) -> None:
    try:
        change = Change.model_validate_json(data)
    except ValidationError:
        return
    assert Change.model_validate_json(change.model_dump_json()) == change
