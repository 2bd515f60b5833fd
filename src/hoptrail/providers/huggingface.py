"""Hugging Face: the router, dedicated endpoints, and every server that speaks OpenAI's chat."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hoptrail.addresses import server_of
from hoptrail.backend import (
    DEFAULT_LIMITS,
    SERVER_SAMPLING,
    Availability,
    CallLimits,
    CallOptions,
    Sampling,
)
from hoptrail.connections import HttpRefusal, load_certificates, refuse, shared_client
from hoptrail.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    SettingsError,
)
from hoptrail.foreign_json import read_foreign
from hoptrail.providers.chat import ChatModelBackend, NotAnAnswer
from hoptrail.providers.completions import Completions, told_by
from hoptrail.refusals import body_of, code_of, is_loading, kind_of, wait_of, words_of
from hoptrail.time_limit import TimeLimit

if TYPE_CHECKING:
    from langchain_huggingface import ChatHuggingFace

ROUTER = "https://router.huggingface.co"

_DEAD_HOST = "api-inference.huggingface.co"
_TOKEN_PAGE = "https://huggingface.co/settings/tokens"
_PROBE_SECONDS = 1.0
_ADVICE = {
    400: "no provider serves this model: set HOPTRAIL_HF_MODEL to one that is served",
    401: f"HF_TOKEN is not accepted: make one at {_TOKEN_PAGE} with 'Make calls to Inference "
    "Providers'",
    402: "the credit is used up: see https://huggingface.co/settings/billing",
    403: f"HF_TOKEN lacks a right: at {_TOKEN_PAGE} allow it to 'Make calls to Inference "
    "Providers', or accept the model's licence on its page",
    404: "it does not serve this: check HOPTRAIL_HF_MODEL and HUGGINGFACE_BASE_URL",
    410: f"this address was switched off: set HUGGINGFACE_BASE_URL to {ROUTER}",
}


class HuggingFaceBackend(ChatModelBackend):
    """A chat model behind Hugging Face's router, or behind an address of one's own.

    ``base_url`` may end in ``/v1`` or not. ``token`` is sent to that host only, and only in a
    header; None sends none, whatever is in the environment. ``model`` may carry a provider or
    policy (``openai/gpt-oss-20b:groq``, ``...:cheapest``).
    """

    name = "huggingface"
    _library = "langchain_huggingface"

    def __init__(
        self,
        model: str,
        token: str | None = None,
        base_url: str = ROUTER,
        *,
        sampling: Sampling = SERVER_SAMPLING,
        limits: CallLimits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(model, _header_safe(token))
        self.base_url = _without_v1(base_url)
        self.server = server_of(self.base_url)
        self.limits = limits
        self._sampling = asdict(sampling)

    @property
    def is_router(self) -> bool:
        """Whether it asks Hugging Face's own router."""
        return self.base_url == ROUTER

    async def probe(self) -> Availability:
        """Say whether a call could be answered: the model list is free and needs no token."""
        await load_certificates()
        started = time.perf_counter()
        found = self._unasked() or await self._asked()
        return found.model_copy(update={"ms": round((time.perf_counter() - started) * 1000, 3)})

    def _unasked(self) -> Availability | None:
        if _DEAD_HOST in self.base_url:
            return self._found(
                "misconfigured",
                f"{_DEAD_HOST} was switched off; its successor is {ROUTER}",
                f"remove HUGGINGFACE_BASE_URL or set it to {ROUTER}",
            )
        if self.is_router and self._token is None:
            return self._found(
                "unconfigured",
                "no token set",
                "set HF_TOKEN (or HUGGINGFACEHUB_API_TOKEN, HUGGINGFACE_API_KEY) to a token from "
                f"{_TOKEN_PAGE}, or HUGGINGFACE_BASE_URL to a server of your own",
            )
        return None

    async def _asked(self) -> Availability:
        try:
            with self.door():
                return await self._listed()
        except BackendRefused as error:
            return self._found("misconfigured", str(error))
        except BackendBusy as error:
            return self._found("loading", str(error))
        except BackendError as error:
            return self._found("down", str(error), f"check that {self.base_url} is reachable")

    async def _listed(self) -> Availability:
        """Ask for the models; a list that is slow to come still proves a server that is up."""
        # The time limit forgives what holds up our own loop, as one of the client would not.
        models = shared_client().stream(
            "GET", f"{self.base_url}/v1/models", headers=self._headers(), timeout=None
        )
        is_there = False
        try:
            async with TimeLimit(_PROBE_SECONDS), models as response:
                if response.status_code in (404, 405) and not self.is_router:
                    return await self._healthy()
                await refuse(response)
                is_there = True
                body = read_foreign(await response.aread())
        except TimeoutError as error:
            if not is_there:
                raise self.unavailable("no answer in time") from error
            return self._found("up", "reachable; its list of models is slow")
        return self._judged(_models_in(body))

    async def _healthy(self) -> Availability:
        """Ask an own server that lists no models for its health."""
        response = await shared_client().get(
            f"{self.base_url}/health", headers=self._headers(), timeout=None
        )
        if response.status_code not in (404, 405):
            await refuse(response)
        return self._found("up", "reachable; it lists no models")

    def _judged(self, providers: Mapping[str, Sequence[object]]) -> Availability:
        models = tuple(providers)
        name, _, suffix = (self.model or "").partition(":")
        if not self.is_router:
            listed = self.model in models or name in models
            detail = "" if listed else f"it lists {', '.join(models[:3]) or 'no model'}"
            return self._found("up", detail, models=models)
        offers = providers.get(name)
        if offers is None:
            fix = "choose a model from https://huggingface.co/models?inference_provider=all"
            return self._found("model_missing", f"no provider serves {name}", fix, models)
        live = _providers(offers, live=True)
        if offers and not live:
            return self._found("down", f"no provider of {name} is live now", "", models)
        if suffix in _providers(offers, live=False) - live:
            return self._found("down", f"{suffix} does not serve {name} now", "", models)
        return self._found("up", models=models)

    def _found(
        self, state: str, detail: str = "", fix: str = "", models: tuple[str, ...] = ()
    ) -> Availability:
        return Availability.model_validate(
            {
                "backend": self.name,
                "model": self.model,
                "state": state,
                "detail": detail,
                "fix": fix,
                "models": models,
            }
        )

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    def _build(self) -> ChatHuggingFace:
        """Build the chat client around our own connection; the only place that does.

        ``HuggingFaceEndpoint`` would send a token from the environment to any address, lose
        sampling settings, rename the model and rewrite the schema. It is only the shell that
        ``ChatHuggingFace`` asks for: its clients are taken out, and ours is put in.
        """
        from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint

        shell = HuggingFaceEndpoint(model=self.base_url, huggingfacehub_api_token=None)
        shell.client = None
        shell.async_client = Completions(self.base_url, self._headers(), self.limits)
        return ChatHuggingFace(llm=shell, stream_usage=True)

    def _has_extras(self, options: CallOptions) -> bool:
        return options.output_schema is not None

    def _arguments(self, options: CallOptions, *, extras: bool) -> dict[str, Any]:
        given = options.model_dump(include={"temperature"}, exclude_none=True)
        schema = options.output_schema if extras else None
        return {
            **self._sampling,
            **given,
            "max_tokens": options.most_output(self._sampling["max_tokens"]),
            "model": self.model,
            "stop": list(options.stop) if options.stop else None,
            "tools": list(options.tools) or None,
            "tool_choice": _tool_choice(options),
            "response_format": None if schema is None else _json_schema(schema),
        }

    def _finish_reason(self, told: Mapping[str, object]) -> str | None:
        reason = told.get("finish_reason")
        return reason if isinstance(reason, str) and reason else None

    def _refused(self, refusal: HttpRefusal) -> BackendError:
        comes_back = is_loading(body_of(refusal.text)) or "retry-after" in refusal.headers
        kind = kind_of(refusal.status, loading=comes_back)
        if code_of(refusal.text) == "model_not_supported":
            kind = BackendRefused
        said = self._shown(words_of(refusal.text)) or "no reason given"
        fix = self._advice(refusal.status) if kind is BackendRefused else ""
        return kind(
            f"HTTP {refusal.status}: {said}" + (f" ({fix})" if fix else ""),
            backend=self.name,
            model=self.model,
            status=refusal.status,
            retry_after=wait_of(refusal),
            fix=fix,
        )

    def _advice(self, status: int) -> str:
        if status in (401, 403) and not self.is_router:
            return f"{self.base_url} does not accept the key it was sent"
        return _ADVICE.get(status, f"check {self.base_url} and the model {self.model}")


def _models_in(body: object) -> dict[str, Sequence[object]]:
    """Give the providers of each model on a list of models, which some servers send bare."""
    if isinstance(body, dict) and body.get("error") is not None:
        raise told_by(body, json.dumps(body))
    data = (body["data"] or []) if isinstance(body, dict) else body
    if not isinstance(data, list) or (data and not any("id" in each for each in data)):
        raise NotAnAnswer("it gives no list of models")
    return {
        str(entry["id"]): entry.get("providers") or ()
        for entry in data
        if isinstance(entry, dict) and "id" in entry
    }


def _providers(offers: Iterable[object], *, live: bool) -> set[str]:
    return {
        str(offer.get("provider"))
        for offer in offers
        if isinstance(offer, dict) and (not live or offer.get("status", "live") == "live")
    }


def _json_schema(schema: Mapping[str, object]) -> dict[str, object]:
    """Give OpenAI's form, which the router, vLLM, Ollama and TGI all read."""
    name = re.sub(r"\W", "_", str(schema.get("title", "answer")))[:64]
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": schema, "strict": True},
    }


def _tool_choice(options: CallOptions) -> object:
    choice = options.tool_choice
    if not options.tools or choice in (None, "auto", "required", "none"):
        return choice if options.tools else None
    return {"type": "function", "function": {"name": choice}}


def _without_v1(url: str) -> str:
    address = url.strip().rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    if not address.startswith(("http://", "https://")):
        raise SettingsError(f"HUGGINGFACE_BASE_URL is no web address: {url!r}")
    return address


def _header_safe(token: str | None) -> str | None:
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()):
        raise SettingsError("HF_TOKEN holds characters that no token has: copy it again")
    return token or None
