"""The settings: what they are, and how they are put together.

For each setting the first of these that has it wins: a flag, the environment, ``.env`` in the
working directory, ``hoptrail.toml`` there and then in the user's config folder, the default. An
empty variable counts as not set.

`Settings` itself reads nothing: it can be built anywhere from plain values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn
from urllib.parse import unquote

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from hoptrail.addresses import (
    base_address,
    host_of,
    is_own_host,
    is_port,
    ollama_address,
    ollama_parts,
    server_of,
    web_address,
    without_user,
)
from hoptrail.errors import SettingsError
from hoptrail.secrecy import Secrets
from hoptrail.setting_sources import Found, cut, of_environment, of_files, of_flags, saved_login

HUGGINGFACE_URL = "https://router.huggingface.co"
OLLAMA_URL = "http://127.0.0.1:11434"
MODEL_SETTINGS = {"huggingface": "hf_model", "ollama": "ollama_model", "local": "local_model"}
"""Which setting names the chat model of a backend; the built-in has none."""

_LEGACY_HOST = "api-inference.huggingface.co"
_LOGIN = "hf login"
_SECRETS = ("token", "api_token", "otlp_headers")
_KEYS = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)
"""What the name of a header says whose value is a secret."""


def _names(value: object) -> object:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _optional_names(value: object) -> object:
    return _names(value) if value else ()


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a name appears twice")
    return names


def _path(value: object) -> object:
    try:
        return Path(value).expanduser() if isinstance(value, str) and value else value or None
    except RuntimeError as error:  # ``~nobody``
        raise ValueError("there is no such user's home folder") from error


def _paths(value: object) -> object:
    if isinstance(value, Path):
        return (value,)
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    return [_path(part) for part in parts if part] if isinstance(parts, list | tuple) else parts


def _is_true(value: object) -> object:
    """Read OpenTelemetry's flags, which are off unless they say ``true``."""
    return value.strip().lower() == "true" if isinstance(value, str) else value


def _captures(value: object) -> object:
    """Read whether spans hold content; OpenTelemetry's own variable has words for it."""
    words = {"no_content": False, "event_only": False, "span_only": True, "span_and_event": True}
    return words.get(value.strip().lower(), value) if isinstance(value, str) else value


def _secret(value: object) -> object:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return (value.strip() or None) if isinstance(value, str) else value


BackendName = Literal["huggingface", "ollama", "local", "extractive"]
EmbedderName = Literal["huggingface", "ollama", "local", "hash"]
ToolName = Literal["calculator", "date_difference"]
_NamesIfAny = (BeforeValidator(_optional_names), AfterValidator(_distinct))
_Names = (BeforeValidator(_names), AfterValidator(_distinct), Field(min_length=1))
_Secret = Annotated[SecretStr | None, BeforeValidator(_secret)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Everything that can be set. ``warnings`` are for the user: typos, dead addresses."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        str_strip_whitespace=True,
        hide_input_in_errors=True,
    )

    token: _Secret = Field(None, description="Hugging Face access token")
    huggingface_base_url: Annotated[str, BeforeValidator(base_address)] = Field(
        HUGGINGFACE_URL, description="Hugging Face router or own endpoint, with or without /v1"
    )
    huggingface_embedding_url: Annotated[str | None, BeforeValidator(web_address)] = Field(
        None, description="Own embedding endpoint (TEI) instead of hf-inference"
    )
    ollama_host: Annotated[str, BeforeValidator(ollama_address)] = Field(
        OLLAMA_URL, description="Where Ollama listens, in Ollama's own notation"
    )
    hf_model: str = Field("openai/gpt-oss-20b", description="Chat model asked at Hugging Face")
    ollama_model: str = Field(
        "", description="Chat model asked at Ollama; empty takes the first installed one"
    )
    embedding_model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="Embedding model asked at Hugging Face",
    )
    ollama_embedding_model: str = Field("all-minilm", description="Embedding model asked at Ollama")
    local_model: str = Field(
        "", description="Transformers chat model run in this process; empty is off"
    )
    local_embedding_path: Annotated[Path | None, BeforeValidator(_path)] = Field(
        None, description="Folder of an ONNX embedding model run in this process"
    )
    backends: Annotated[tuple[BackendName, ...], *_Names] = Field(
        ("huggingface", "ollama", "local", "extractive"),
        description="Who is asked, in this order",
    )
    embedders: Annotated[tuple[EmbedderName, ...], *_Names] = Field(
        ("huggingface", "ollama", "local", "hash"), description="Who embeds, in this order"
    )
    docs: Annotated[tuple[Path, ...], BeforeValidator(_paths)] = Field(
        (), description="Documents to answer from when none are named, several joined as in PATH"
    )
    home: Annotated[Path, BeforeValidator(_path)] = Field(
        default_factory=lambda: platformdirs.user_data_path("hoptrail"),
        description="Folder of runs, traces, indexes and memory",
    )
    max_steps: _Count = Field(8, description="Most steps of a plan")
    max_llm_calls: _Count = Field(24, description="Most model calls of a run")
    max_tokens: _Count | None = Field(None, description="Most tokens of a run; empty is no limit")
    deadline: _Seconds = Field(300.0, description="Seconds a run may take")
    revisions: int = Field(1, ge=0, description="How often a run may change its plan")
    top_k: _Count = Field(5, description="Passages given to a step")
    context_tokens: _Count = Field(1800, description="Most tokens of context given to a step")
    num_ctx: _Count = Field(8192, description="Context window asked of Ollama, in tokens")
    connect_timeout: _Seconds = Field(2.0, description="Seconds to connect to a backend")
    first_byte_timeout: _Seconds | None = Field(
        None, description="Seconds until an answer begins; empty is 30, at Ollama 180"
    )
    idle_timeout: _Seconds = Field(20.0, description="Seconds an answer may pause")
    call_timeout: _Seconds = Field(180.0, description="Seconds a call may take")
    concurrency: _Count = Field(8, description="Most calls at a time")
    temperature: float = Field(0.0, ge=0, le=2, description="Sampling temperature")
    tools: Annotated[tuple[ToolName, ...], *_NamesIfAny] = Field(
        (), description="Tools that steps may call: calculator, date_difference"
    )
    api_token: _Secret = Field(
        None, description="What clients of `hoptrail serve` must send as a bearer token"
    )
    allowed_hosts: Annotated[tuple[str, ...], *_NamesIfAny] = Field(
        (), description="Host names besides this machine's own that the server answers to"
    )
    allowed_origins: Annotated[tuple[str, ...], *_NamesIfAny] = Field(
        (), description="Web origins besides this machine's own whose pages may call the server"
    )
    max_runs: _Count = Field(256, description="Most runs at a time in the server; more get 429")
    otlp_endpoint: str = Field(
        "", description="OpenTelemetry endpoint that each run that ends is sent to (OTLP over HTTP)"
    )
    otlp_traces_endpoint: str = Field(
        "", description="The same as a whole address, as in http://127.0.0.1:4318/v1/traces"
    )
    otlp_headers: _Secret = Field(
        None, description="What is sent along, name=value,name=value; often a key"
    )
    otel_service_name: str = Field("", description="Who spans say they come from; empty: hoptrail")
    otel_file: Annotated[Path | None, BeforeValidator(_path)] = Field(
        None, description="File that each run that ends is appended to, as a line of OTLP JSON"
    )
    otel_content: Annotated[bool, BeforeValidator(_captures)] = Field(
        False, description="Whether spans hold questions, prompts, passages and answers"
    )
    otel_disabled: Annotated[bool, BeforeValidator(_is_true)] = Field(
        False, description="Whether no run is exported as spans, whatever else is set"
    )

    warnings: tuple[str, ...] = ()

    _login: SecretStr | None = PrivateAttr(None)
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _replace_what_cannot_work(cls, values: dict[str, object]) -> dict[str, object]:
        """Replace the dead Hugging Face host, and say so; say so for a bad Ollama port too."""
        values = dict(values)
        warnings: list[str] = []
        for name in ("huggingface_base_url", "huggingface_embedding_url"):
            if host_of(values.get(name)) == _LEGACY_HOST:
                del values[name]
                warnings.append(
                    f"{_LEGACY_HOST} was shut down in 2025 and answers 410 to everything: using "
                    f"{HUGGINGFACE_URL} instead. Remove {variables()[name][0]} to silence this."
                )
        for name in ("otlp_endpoint", "otlp_traces_endpoint"):
            address = values.get(name)
            if isinstance(address, str) and address.strip() and not server_of(address.strip()):
                # It is no mistake where others than Hoptrail read it, and speak gRPC.
                del values[name]
                warnings.append(
                    f"{variables()[name][0]} is no http:// or https:// address: no run is sent "
                    "to it. Hoptrail speaks OTLP over HTTP, as at http://127.0.0.1:4318."
                )
        ollama = values.get("ollama_host")
        if isinstance(ollama, str) and "@" not in ollama:
            _, _, port, default, _ = ollama_parts(ollama)
            if port and not is_port(port):
                warnings.append(f"OLLAMA_HOST has a bad port, {cut(port)!r}: using {default}.")
        given = values.get("warnings", ())
        return {**values, "warnings": (*given, *warnings) if isinstance(given, tuple) else given}

    def token_for(self, url: str) -> SecretStr | None:
        """Give the token to send to ``url``: the saved login goes to Hugging Face alone."""
        if self.token is not None and self._origins.get("token") != _LOGIN:
            return self.token
        return self._login if is_own_host(url) else None

    def with_model(self, backend: str, model: str) -> Settings:
        """Give these settings with another chat model for one of the backends."""
        return self.model_copy(update={MODEL_SETTINGS[backend]: model})

    def __reduce__(self) -> NoReturn:
        raise TypeError("settings hold keys, which a pickle would show: load them where they are")

    @property
    def secrets(self) -> Secrets:
        """What masks these settings' tokens, and what looks like one, in texts that leave."""
        tokens = [*(getattr(self, name) for name in type(self).model_fields), self._login]
        held = [each.get_secret_value() for each in tokens if isinstance(each, SecretStr)]
        headers = self.otlp_headers.get_secret_value() if self.otlp_headers else ""
        return Secrets([*held, *_keys_in(headers)])


def _keys_in(headers: str) -> list[str]:
    """Give the keys among the headers of spans; others, such as a type, stand in many texts."""
    named = [each.partition("=") for each in headers.split(",")]
    values = [unquote(value).strip() for name, _, value in named if _KEYS.search(name)]
    # Of "Bearer KEY" the last word is the secret: a collector may tell it without the first.
    return [value.rpartition(" ")[2] for value in values]


_SHARED_VARIABLES = {
    "token": ("HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "HUGGINGFACE_API_KEY"),
    "huggingface_base_url": ("HUGGINGFACE_BASE_URL",),
    "huggingface_embedding_url": ("HUGGINGFACE_EMBEDDING_URL",),
    "ollama_host": ("OLLAMA_HOST",),
    "otlp_endpoint": ("OTEL_EXPORTER_OTLP_ENDPOINT",),
    "otlp_traces_endpoint": ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",),
    "otlp_headers": ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
    "otel_service_name": ("OTEL_SERVICE_NAME",),
    "otel_content": (
        "HOPTRAIL_OTEL_CONTENT",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
    ),
    "otel_disabled": ("OTEL_SDK_DISABLED",),
}


def variables() -> dict[str, tuple[str, ...]]:
    """Give the environment variables of each setting, the one that wins first."""
    return {
        name: _SHARED_VARIABLES.get(name, (f"HOPTRAIL_{name.upper()}",))
        for name in Settings.model_fields
        if name != "warnings"
    }


def load_settings(**flags: object) -> Settings:
    """Give the settings of this process; a flag that is None counts as not given.

    Raises:
        SettingsError: a value cannot be used. It says which, from where, and what to write.
    """
    names = variables()
    sources = [of_flags(flags, names), *of_environment(names), *of_files(names)]
    found: dict[str, Found] = {}
    for source in reversed(sources):
        found.update(source.found)
    warnings = tuple(warning for source in sources for warning in source.warnings)
    try:
        settings = Settings.model_validate(
            {**{name: each.value for name, each in found.items()}, "warnings": warnings}
        )
    except ValidationError as error:
        # The cause would show the values, secrets among them.
        raise SettingsError(_explained(error, found)) from None
    settings._origins.update({name: each.origin for name, each in found.items()})
    return _with_login(settings)


def _with_login(settings: Settings) -> Settings:
    settings._login = saved_login()
    if settings.token is not None or not is_own_host(settings.huggingface_base_url):
        return settings
    if settings._login is not None:
        settings._origins["token"] = _LOGIN
    return settings.model_copy(update={"token": settings._login})


@dataclass(frozen=True)
class Origin:
    """Where the value of one setting came from; ``value`` is masked where it is a secret."""

    name: str
    value: str
    origin: str


def origins(settings: Settings) -> list[Origin]:
    """Give each setting by its variable, with its value in words and where it came from."""
    return [
        Origin(names[0], _shown(getattr(settings, name)), settings._origins.get(name, "default"))
        for name, names in variables().items()
    ]


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "hf_…" if value.get_secret_value().startswith("hf_") else "…"
    if isinstance(value, tuple):
        return (os.pathsep if value and isinstance(value[0], Path) else ",").join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else without_user(str(value))


def _told(value: object) -> str:
    """Give a value that cannot be used as an error shows it: without a user, and not at length."""
    _, user, rest = repr(value).rpartition("@")
    return cut(f"…@{rest}" if user else rest)


def _explained(error: ValidationError, found: Mapping[str, Found]) -> str:
    """Say of each bad value what it is called, where it stands, what is wrong and what to do."""
    keys = [str(found[name].value).strip() for name in _SECRETS if name in found]
    lines = []
    for problem in error.errors(include_url=False):
        setting = str(problem["loc"][0])
        each = found[setting]
        value = "its value" if setting in _SECRETS else _told(each.value)
        wrong = cut(problem["msg"].removeprefix("Value error, "))
        example = _shown(Settings.model_fields[setting].get_default(call_default_factory=True))
        fix = f"Write for example {each.written}={example}" if example else "Correct it"
        lines.append(
            f"{each.written} ({each.place}): {value} cannot be used: {wrong}. {fix}, or remove it."
        )
    # A key may have been written where another value belongs.
    return Secrets(keys).masked("\n".join(dict.fromkeys(lines)))
