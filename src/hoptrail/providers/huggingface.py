"""Hugging Face: the router, dedicated endpoints, and every server that speaks OpenAI's chat."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar

import httpx

from hoptrail.backend import Availability, CallLimits, CallOptions
from hoptrail.connections import HttpRefusal, refuse, shared_client
from hoptrail.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    SettingsError,
)
from hoptrail.providers.chat import ChatModelBackend
from hoptrail.refusals import body_of, code_of, estimated_time, kind_of, wait_of, words_of

if TYPE_CHECKING:
    from langchain_huggingface import ChatHuggingFace

ROUTER = "https://router.huggingface.co"

_DEAD_HOST = "api-inference.huggingface.co"
_TOKEN_PAGE = "https://huggingface.co/settings/tokens"
_DRAIN_SECONDS = 0.05
_PROBE_SECONDS = 1.0


class HuggingFaceBackend(ChatModelBackend):
    """A chat model behind Hugging Face's router, or behind an address of one's own.

    ``base_url`` may end in ``/v1`` or not. ``token`` is sent to that host only, and only in a
    header; None sends none, whatever is in the environment. ``model`` may carry a provider or
    policy (``openai/gpt-oss-20b:groq``, ``...:cheapest``).
    """

    name = "huggingface"

    def __init__(
        self,
        model: str,
        token: str | None = None,
        base_url: str = ROUTER,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        limits: CallLimits | None = None,
    ) -> None:
        super().__init__(model)
        self.base_url = _without_v1(base_url)
        self.limits = limits or CallLimits()
        self._token = _checked(token)
        self._defaults = {
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "max_tokens": max_tokens,
        }

    @property
    def is_router(self) -> bool:
        """Whether it asks Hugging Face's own router."""
        return self.base_url == ROUTER

    async def probe(self) -> Availability:
        """Say whether a call could be answered: the model list is free and needs no token."""
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
        request = shared_client().build_request(
            "GET", f"{self.base_url}/v1/models", headers=self._headers(), timeout=_PROBE_SECONDS
        )
        response = await shared_client().send(request, stream=True)
        try:
            if response.status_code in (404, 405) and not self.is_router:
                return await self._healthy()
            await refuse(response)
            async with asyncio.timeout(_PROBE_SECONDS):
                body = json.loads(await response.aread())
        except (TimeoutError, httpx.ReadTimeout):
            return self._found("up", "reachable; its list of models is slow")
        finally:
            await response.aclose()
        return self._judged(_models_in(body))

    async def _healthy(self) -> Availability:
        """Ask an own server that lists no models for its health."""
        response = await shared_client().get(
            f"{self.base_url}/health", headers=self._headers(), timeout=_PROBE_SECONDS
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
        live = {str(offer.get("provider")) for offer in offers if _is_live(offer)}
        if offers and not live:
            return self._found("down", f"no provider of {name} is live now", "", models)
        if suffix in {str(o.get("provider")) for o in offers if isinstance(o, dict)} - live:
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
        shell.async_client = _ChatDoor(self.base_url, self._headers(), self.limits)
        return ChatHuggingFace(llm=shell, stream_usage=True)

    def _has_extras(self, options: CallOptions) -> bool:
        return options.output_schema is not None

    def _arguments(self, options: CallOptions, *, extras: bool) -> dict[str, object]:
        given = options.model_dump(include={"temperature", "max_tokens"}, exclude_none=True)
        schema = options.output_schema if extras else None
        return {
            **self._defaults,
            **given,
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
        loading = estimated_time(body_of(refusal.text)) is not None
        kind = kind_of(refusal.status, loading=loading or "retry-after" in refusal.headers)
        if code_of(refusal.text) == "model_not_supported":
            kind = BackendRefused
        said = words_of(refusal.text)
        if self._token:
            said = said.replace(self._token, "***")
        message = self._advice.get(refusal.status, "") if kind is BackendRefused else ""
        told = " ".join(part.format(backend=self) for part in (message,) if part)
        return kind(
            f"HTTP {refusal.status}: {said or kind.__doc__}" + (f" ({told})" if told else ""),
            backend=self.name,
            model=self.model,
            status=refusal.status,
            retry_after=wait_of(refusal),
        )

    _advice: ClassVar[dict[int, str]] = {
        400: "no provider serves this model: set HOPTRAIL_HF_MODEL to one that is served",
        401: f"HF_TOKEN is not accepted: make one at {_TOKEN_PAGE} with 'Make calls to "
        "Inference Providers'",
        402: "the credit is used up: see https://huggingface.co/settings/billing",
        403: f"HF_TOKEN lacks a right: at {_TOKEN_PAGE} allow it to 'Make calls to Inference "
        "Providers', or accept the model's licence",
        404: "{backend.base_url} does not serve {backend.model}: check HOPTRAIL_HF_MODEL and "
        "HUGGINGFACE_BASE_URL",
        410: f"this address was switched off: set HUGGINGFACE_BASE_URL to {ROUTER}",
    }


class _ChatDoor:
    """Speaks ``/v1/chat/completions`` in place of huggingface_hub's ``AsyncInferenceClient``.

    Its one public method is what ``ChatHuggingFace`` calls, so nothing here leans on the Hub
    library's private parts. What the wire taught: `[DONE]` is spelled in several ways or
    missing, text may hold line separators that are no line ends, usage comes anywhere.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], limits: CallLimits) -> None:
        self._url = f"{base_url}/v1/chat/completions"
        self._headers = headers
        patience = max(limits.first_token, limits.idle)
        self._timeout = httpx.Timeout(patience, connect=limits.connect)

    async def chat_completion(
        self, *, messages: Sequence[Mapping[str, object]], stream: bool, **parameters: object
    ) -> AsyncGenerator[dict[str, object], None]:
        """Open a streamed completion; gives OpenAI chunks."""
        assert stream
        asked = {name: value for name, value in parameters.items() if value is not None}
        return self._chunks({**asked, "messages": messages, "stream": True})

    async def _chunks(self, body: object) -> AsyncGenerator[dict[str, object], None]:
        async with shared_client().stream(
            "POST", self._url, json=body, headers=self._headers, timeout=self._timeout
        ) as response:
            await refuse(response)
            parts = response.aiter_bytes()
            assert isinstance(parts, AsyncGenerator)
            async with aclosing(parts):
                rest = b""
                async for part in parts:
                    *lines, rest = (rest + part).split(b"\n")
                    for event in _events(lines):
                        yield event
                    if any(map(_is_done, lines)):
                        return await _drained(parts)
                for event in _events([rest]):
                    yield event


async def _drained(parts: AsyncGenerator[bytes, None]) -> None:
    """Read what little may follow the end, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in parts:
                pass
    except (TimeoutError, httpx.HTTPError):
        return


def _is_done(line: bytes) -> bool:
    return line.startswith(b"data:") and line[5:].strip() == b"[DONE]"
