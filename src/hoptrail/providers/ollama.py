"""Ollama's own chat API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from langchain_core.messages import BaseMessage

from hoptrail.addresses import server_of
from hoptrail.backend import SERVER_SAMPLING, Availability, CallLimits, CallOptions, Sampling
from hoptrail.connections import (
    HttpRefusal,
    load_certificates,
    refuse,
    shared_client,
    ssl_context,
)
from hoptrail.errors import BackendBusy, BackendError, BackendRefused, SettingsError
from hoptrail.foreign_json import read_foreign
from hoptrail.providers.chat import ChatModelBackend, NotAnAnswer
from hoptrail.providers.chats import Chats
from hoptrail.refusals import body_of, kind_of, wait_of, words_of
from hoptrail.time_limit import TimeLimit

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata
    from langchain_ollama import ChatOllama

DEFAULT_HOST = "http://127.0.0.1:11434"

OLLAMA_LIMITS = CallLimits(first_token=180.0)
"""While a model loads from a slow disk no byte comes: the wait for the first is long."""

_PROBE_SECONDS = 1.0
_EMBEDDING_NAMES = ("embed", "minilm", "bge-", "e5-", "rerank")
_EMBEDDING_FAMILIES = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "xlm-roberta"})
_MOST_CHARACTERS_PER_TOKEN = 6
_ENDS = frozenset({"", "stop", "length"})


class OllamaBackend(ChatModelBackend):
    """A chat model of an Ollama server.

    ``host`` is a whole address; ``OLLAMA_HOST``'s short forms are read by the settings.
    ``model`` None takes the first installed one that can chat and runs on that server.
    ``num_ctx`` is always sent, and always the same: unset, the server cuts long prompts
    silently, and a changed one makes it load the model again. ``think`` lets a reasoning model
    think aloud before it answers. ``token`` is for a server behind a proxy or ollama.com; without
    it no key is sent, whatever is in the environment.
    """

    name = "ollama"
    _library = "langchain_ollama"

    def __init__(  # noqa: PLR0913 - each is a field of Ollama's own request
        self,
        model: str | None = None,
        host: str = DEFAULT_HOST,
        *,
        num_ctx: int = 8192,
        keep_alive: int | str | None = "10m",
        think: bool = False,
        token: str | None = None,
        sampling: Sampling = SERVER_SAMPLING,
        limits: CallLimits = OLLAMA_LIMITS,
    ) -> None:
        super().__init__(model, token)
        self.base_url = _address(host)
        self.server = server_of(self.base_url)
        self.limits = limits
        self.num_ctx = num_ctx
        self._keep_alive = keep_alive
        self._think = think
        self._options = _options(asdict(sampling)) | {"num_ctx": num_ctx}

    async def probe(self) -> Availability:
        """Say whether the server is up and has the model; nothing is loaded."""
        await load_certificates()
        started = time.perf_counter()
        try:
            with self.door():
                found = self._judged(await self._installed())
        except BackendRefused as error:
            found = self._found("misconfigured", str(error))
        except BackendBusy as error:
            found = self._found("loading", str(error))
        except BackendError as error:
            found = self._found("down", str(error), "start it with `ollama serve`")
        return found.model_copy(update={"ms": round((time.perf_counter() - started) * 1000, 3)})

    async def _installed(self) -> list[dict[str, Any]]:  # Any: Ollama's JSON
        # The time limit forgives what holds up our own loop, as one of the client would not.
        tags = shared_client().stream(
            "GET", f"{self.base_url}/api/tags", headers=self._headers(), timeout=None
        )
        try:
            async with TimeLimit(_PROBE_SECONDS), tags as response:
                await refuse(response)
                told = read_foreign(await response.aread())
        except TimeoutError as error:
            raise self.unavailable("no answer in time") from error
        entries = told.get("models", ()) if isinstance(told, dict) else ()
        if not isinstance(entries, list | None):
            raise NotAnAnswer("it gives no list of models")
        return [entry for entry in entries or () if isinstance(entry, dict)]

    def _judged(self, entries: Sequence[Mapping[str, Any]]) -> Availability:
        models = tuple(str(entry.get("name", "")) for entry in entries)
        if self.model is None:
            return self._chosen(entries, models)
        if normal_name(self.model) in map(normal_name, models):
            return self._found("up", models=models)
        fix = f"ollama pull {self.model}"
        return self._found("model_missing", f"{self.model} is not installed", fix, models)

    def _chosen(
        self, entries: Sequence[Mapping[str, Any]], models: tuple[str, ...]
    ) -> Availability:
        self.model = next((str(entry["name"]) for entry in entries if _can_chat(entry)), None)
        if self.model is None:
            detail, fix = "no chat model is installed", "ollama pull qwen3:8b"
            return self._found("model_missing", detail, fix, models)
        return self._found("up", "the first installed chat model", models=models)

    async def _ready(self) -> None:
        await super()._ready()
        if self.model is None:
            found = await self.probe()
            if self.model is None:
                message = f"{found.detail} ({found.fix})"
                if found.state in ("down", "loading"):
                    raise self.unavailable(message)
                raise BackendRefused(message, backend=self.name)

    def _found(
        self, state: str, detail: str = "", fix: str = "", models: tuple[str, ...] = ()
    ) -> Availability:
        fields = {"state": state, "detail": detail, "fix": fix, "models": models}
        return Availability.model_validate({"backend": self.name, "model": self.model} | fields)

    def _build(self) -> ChatOllama:
        """Build the chat client around our own connection; the only place that does.

        The two clients that it builds itself are never used: they would add OLLAMA_API_KEY for
        any host, lose a refusal's headers, and print what they were given with ``repr``.
        """
        from langchain_ollama import ChatOllama

        chat = ChatOllama(
            model=self.model or "",
            base_url=self.base_url,
            keep_alive=self._keep_alive,
            client_kwargs={"verify": ssl_context(), "trust_env": False},
        )
        chats: Any = Chats(self.base_url, self._headers(), self.limits)
        chat._async_client = chats
        return chat

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    def _has_extras(self, options: CallOptions) -> bool:
        return True

    def _arguments(self, options: CallOptions, *, extras: bool) -> dict[str, Any]:
        given = options.model_dump(include={"temperature"}, exclude_none=True)
        most = options.most_output(self._options.get("num_predict"))
        wished = self._options | given | _options({"max_tokens": most})
        if options.stop:
            wished["stop"] = list(options.stop)
        arguments: dict[str, Any] = {"model": self.model, "options": wished}
        if extras:
            # Servers before 0.12.5 refuse even `think: false` for a model that cannot think.
            arguments["reasoning"] = self._think
        if options.output_schema is not None:
            arguments["format"] = options.output_schema
        if options.tools:
            arguments["tools"] = list(options.tools)
        return arguments

    def _finish_reason(self, told: Mapping[str, object]) -> str | None:
        # Servers before 0.1.35 end with `done` alone; `load` and `unload` are no answers.
        reason = told.get("done_reason") or ""
        if told.get("done") is not True or reason not in _ENDS:
            return None
        return str(reason) or "stop"

    def _warnings(self, messages: Sequence[BaseMessage], usage: UsageMetadata | None) -> list[str]:
        read = usage["input_tokens"] if usage else 0
        sent = sum(len(str(message.text)) for message in messages)
        if not _was_cut(read, sent, self.num_ctx):
            return []
        return [
            f"ollama read {read} tokens of a prompt of {sent} characters: it does not fit into "
            f"num_ctx={self.num_ctx} and lost its beginning (raise HOPTRAIL_OLLAMA_NUM_CTX)"
        ]

    def _refused(self, refusal: HttpRefusal) -> BackendError:
        # Ollama's only 503 is its full queue.
        kind = kind_of(refusal.status, loading=True)
        return kind(
            f"HTTP {refusal.status}: {self._said(refusal)}",
            backend=self.name,
            model=self.model,
            status=refusal.status,
            retry_after=wait_of(refusal),
        )

    def _said(self, refusal: HttpRefusal) -> str:
        said = words_of(refusal.text)
        inner = body_of(said).get("error")
        if isinstance(inner, dict):  # llama-server's own JSON, inside the string
            told = self._shown(str(inner.get("message")))
            return f"{told} (raise HOPTRAIL_NUM_CTX, now {self.num_ctx})"
        said = self._shown(said)
        if refusal.status == 404 and self.model is None:
            return f"no Ollama answers at {self.base_url} (see OLLAMA_HOST)"
        if refusal.status == 404:
            return f"{said or 'not found'} (ollama pull {self.model})"
        if refusal.status == 403 and not said:
            return "it refuses this Host name (see OLLAMA_HOST and OLLAMA_ORIGINS on the server)"
        return said or "no reason given"


def normal_name(model: str) -> str:
    """Give a model's name in the form in which two spellings of it are equal."""
    name = model.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _can_chat(entry: Mapping[str, Any]) -> bool:
    """Say whether an installed model can chat, on that server itself and not in a cloud."""
    name = str(entry.get("name", ""))
    if not name or entry.get("remote_host") or name.endswith(("-cloud", ":cloud")):
        return False
    if capabilities := entry.get("capabilities"):
        return "completion" in capabilities
    details = entry.get("details")
    family = str(details.get("family", "")) if isinstance(details, dict) else ""
    if family in _EMBEDDING_FAMILIES:
        return False
    return not any(mark in name.lower() for mark in _EMBEDDING_NAMES)


def _was_cut(read: int, characters: int, num_ctx: int) -> bool:
    """Say whether the server dropped the beginning of a prompt without telling.

    Its two ways of cutting leave exactly ``num_ctx`` or about half of it; more tokens than fit
    must have been sent when there are more than six characters for each.
    """
    if not read:
        return False
    left_over = {num_ctx, num_ctx - 1, num_ctx // 2 + 2, num_ctx // 2 + 3}
    certainly_sent = characters / _MOST_CHARACTERS_PER_TOKEN
    if read in left_over and characters > 2 * read:
        return True
    return certainly_sent > num_ctx and read <= num_ctx


def _options(sampling: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {"max_tokens": "num_predict"}
    return {renamed.get(k, k): value for k, value in sampling.items() if value is not None}


def _address(host: str) -> str:
    """Give the server's address, which the client library would silently replace if wrong."""
    parts = urlsplit(host.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise SettingsError(f"no http address of a server (without user and password): {host!r}")
    return host.strip().rstrip("/")
