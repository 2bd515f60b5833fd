"""The choices that several commands offer: documents, index, backend, model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from hoptrail.settings import Settings

BACKENDS = ("huggingface", "ollama", "local", "extractive")
TOOLS = ("calculator", "date_difference")
_WITH_MODEL = BACKENDS[:-1]
"""The built-in has no model."""

F = TypeVar("F", bound=Callable[..., object])


class ModelName(click.ParamType[tuple[str, str]]):
    """A model as ``BACKEND:MODEL``; what follows the first colon is the model."""

    name = "BACKEND:MODEL"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Give backend and model."""
        backend, _, model = str(value).partition(":")
        if backend not in _WITH_MODEL or not model:
            known = ", ".join(_WITH_MODEL)
            self.fail(
                f"write it as BACKEND:MODEL, with one of {known}: ollama:qwen3:8b", param, ctx
            )
        return backend, model


def index_option(command: F) -> F:
    """Add ``--index``."""
    return click.option(
        "--index",
        type=click.Path(file_okay=False),
        metavar="FOLDER",
        help="Where the index is kept. Default: under Hoptrail's home, by the documents' paths.",
    )(command)


def documents_options(command: F) -> F:
    """Add ``--docs``, which may be given several times, and ``--index``."""
    docs = click.option(
        "--docs",
        multiple=True,
        type=click.Path(exists=True),
        metavar="PATH",
        help="A file or folder to answer from; may be given several times.",
    )
    return docs(index_option(command))


def model_options(command: F) -> F:
    """Add ``-m`` and ``--backend``, each of which leaves no other backend to fall back on."""
    model = click.option(
        "-m", "--model", type=ModelName(), help="Ask this model only, as in ollama:qwen3:8b."
    )
    backend = click.option("--backend", type=click.Choice(BACKENDS), help="Ask this backend only.")
    return model(backend(command))


def tool_option(command: F) -> F:
    """Add ``--tool``, which may be given several times."""
    return click.option(
        "--tool",
        "tools",
        multiple=True,
        type=click.Choice(TOOLS),
        help="A tool that steps may call; may be given several times.",
    )(command)


def settings_for(
    backend: str | None = None, model: tuple[str, str] | None = None, **flags: object
) -> Settings:
    """Give the settings with what the command line chose; None leaves a setting as it is."""
    from hoptrail.settings import MODEL_SETTINGS, load_settings

    if model is not None:
        if backend not in (None, model[0]):
            raise click.UsageError(f"--backend {backend} and -m {':'.join(model)} contradict")
        backend = model[0]
        flags[MODEL_SETTINGS[backend]] = model[1]
    return load_settings(backends=backend, **flags)
