"""A question of two hops, the documents that answer it, and a model that knows how."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from hoptrail.request import StepRequest
from hoptrail.testing import Asked, ScriptedChatModel, script, step_reply
from tests.providers import ChatRequest, LoopbackProvider, Reply

QUESTION = "In which city was the author of The Trial born?"
STEPS = ["Who wrote The Trial?", "Where was #1 born?"]
FINAL = "Prague [2]\n\nThe Trial is by Franz Kafka [1], who was born in Prague [2]."
DOCUMENTS = {
    "novels.md": "# The Trial\nThe Trial is a novel by Franz Kafka.\n",
    "people.md": "# Franz Kafka\nFranz Kafka was born in Prague.\n",
}


def write_documents(folder: Path) -> Path:
    """Write the documents."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def kind_of(request: ChatRequest) -> str:
    """Say which part of a run a call belongs to.

    It is ``plan``, ``next 1``, ``next 2``, … (one step at a time), a step's question, or
    ``synthesis``.
    """
    if "steps" in (request.schema or {}).get("properties", ()):
        known = request.question.count("\nStep ")
        return f"next {known + 1}" if "one look-up at a time" in request.prompt else "plan"
    if "Findings:" in request.question:
        return "synthesis"
    return request.question.rpartition("Question: ")[2]


def respond(request: ChatRequest) -> Reply:
    """Answer as a good model would."""
    match kind_of(request):
        case "plan":
            return Reply(json.dumps({"steps": STEPS}))
        case "next 1":
            return Reply(json.dumps({"steps": STEPS[:1]}))
        case "next 2":
            return Reply(json.dumps({"steps": ["Where was Franz Kafka born?"]}))
        case "next 3":
            return Reply(json.dumps({"steps": []}))
        case "synthesis":
            return Reply(FINAL)
        case "Who wrote The Trial?":
            return Reply(step_reply("Franz Kafka", (number_of("The Trial", request),)))
        case "Where was Franz Kafka born?":
            return Reply(step_reply("Prague", (number_of("Franz Kafka", request),)))
        case _:
            return Reply(step_reply(None))


def number_of(title: str, request: ChatRequest) -> int:
    """Give the number under which a document of this title stands in the prompt."""
    lines = request.question.splitlines()
    line = next(each for each in lines if each.startswith("[") and f"] {title}: " in each)
    return int(line[1 : line.index("]")])


def model() -> ScriptedChatModel:
    """Give a model in this process that answers as a good one would."""
    told = script(STEPS, synthesis=FINAL)
    answers = {
        "Who wrote The Trial?": ("Franz Kafka", "The Trial"),
        "Where was Franz Kafka born?": ("Prague", "Franz Kafka"),
    }

    def answer(asked: Asked) -> str | BaseException:
        if not isinstance(asked.request, StepRequest):
            return told(asked)
        text, title = answers[asked.request.question]
        titles = [item.passage.title for item in asked.request.evidence]
        return step_reply(text, (titles.index(title) + 1,))

    return ScriptedChatModel(respond=answer)


def serve(provider: LoopbackProvider) -> None:
    """Let the loopback Ollama answer the question."""
    provider.ollama.models = ["qwen3:8b", "llama3.2:3b"]
    provider.ollama.respond = respond


def environment(provider: LoopbackProvider) -> dict[str, str]:
    """Give the settings under which only the loopback Ollama is asked."""
    return {
        "OLLAMA_HOST": provider.ollama_url,
        "HUGGINGFACE_BASE_URL": provider.huggingface_url,
        "HOPTRAIL_BACKENDS": "ollama",
        "HOPTRAIL_EMBEDDERS": "hash",
    }


def command(*arguments: str) -> list[str]:
    """Give the command line of a process of its own."""
    return [sys.executable, "-m", "hoptrail", *arguments]


def process_environment(provider: LoopbackProvider) -> dict[str, str]:
    """Give the environment of a process of its own."""
    return {**os.environ, **environment(provider), "PYTHONUNBUFFERED": "1"}
