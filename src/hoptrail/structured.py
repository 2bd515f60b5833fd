"""Answers in the form of a schema, also from models that cannot be held to one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, ValidationError

from hoptrail.background import background
from hoptrail.errors import InvalidResponse
from hoptrail.loose_json import read_json

_INSTRUCTION = (
    "Answer with one JSON object that follows this JSON schema, and nothing else:\n{schema}"
)
_ASK_AGAIN = "That cannot be used: {error}\nAnswer again with only the corrected JSON object."


def structured_output(
    model: BaseChatModel, schema: dict[str, Any] | type, *, include_raw: bool = False
) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
    """Give a runnable whose output is an instance of ``schema`` (a dict for a dict schema).

    The schema is told in the prompt and set as a constraint; the answer is read tolerantly,
    validated, and asked for once more with the error. With ``include_raw`` the output is
    ``{"raw", "parsed", "parsing_error"}``, else a second failure raises
    `hoptrail.errors.InvalidResponse`.
    """
    form = convert_to_json_schema(schema)

    async def answer(prompt: LanguageModelInput, config: RunnableConfig) -> Any:
        messages = _told(_as_messages(prompt), form)
        raw = await model.ainvoke(messages, config, output_schema=form)
        parsed, error = _read(raw, schema)
        if error is not None:
            again = HumanMessage(_ASK_AGAIN.format(error=error))
            raw = await model.ainvoke([*messages, raw, again], config, output_schema=form)
            parsed, error = _read(raw, schema)
        if include_raw:
            return {"raw": raw, "parsed": parsed, "parsing_error": error}
        if error is not None:
            raise error
        return parsed

    def answer_now(prompt: LanguageModelInput, config: RunnableConfig) -> Any:
        return background().run(answer(prompt, config))

    return RunnableLambda(answer_now, afunc=answer, name="structured_output")


def _told(messages: Sequence[BaseMessage], form: dict[str, Any]) -> list[BaseMessage]:
    """Put the instruction into the one system message: many chat templates allow no second."""
    instruction = _INSTRUCTION.format(schema=json.dumps(form, ensure_ascii=False))
    if messages and isinstance(messages[0], SystemMessage):
        return [SystemMessage(f"{messages[0].text}\n\n{instruction}"), *messages[1:]]
    return [SystemMessage(instruction), *messages]


def _read(raw: AIMessage, schema: dict[str, Any] | type) -> tuple[object, InvalidResponse | None]:
    value = read_json(str(raw.text))
    if not isinstance(value, dict):
        return None, _unusable("it holds no JSON object", raw)
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return value, None
    try:
        return schema.model_validate(value), None
    except ValidationError as error:
        return None, _unusable(_in_short(error), raw)


def _in_short(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the object'}: {fault['msg']}" for fault in faults
    )


def _unusable(why: str, raw: AIMessage) -> InvalidResponse:
    told = raw.response_metadata.get("hoptrail", {})
    return InvalidResponse(why, backend=told.get("backend", "model"), model=told.get("model"))


def _as_messages(prompt: LanguageModelInput) -> Sequence[BaseMessage]:
    if isinstance(prompt, PromptValue):
        return prompt.to_messages()
    return convert_to_messages([prompt] if isinstance(prompt, str) else prompt)
