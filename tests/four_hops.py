"""Questions of four steps, a chain and a diamond, the documents, and a model that knows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hoptrail import Hoptrail, load_settings
from hoptrail.testing import step_reply
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.two_hops import kind_of

QUESTION = "What is said of the river in the birthplace of the author of The Trial?"
CHAIN = (
    "Who wrote The Trial?",
    "Where was #1 born?",
    "Which river flows through #2?",
    "How long is the #3?",
)
DIAMOND = (
    "Who wrote The Trial?",
    "Where was #1 born?",
    "Which language did #1 write in?",
    "Is #3 spoken in #2?",
)
FACTS = {
    "Who wrote The Trial?": "Franz Kafka",
    "Where was Franz Kafka born?": "Prague",
    "Which river flows through Prague?": "Vltava",
    "How long is the Vltava?": "430 km",
    "Which language did Franz Kafka write in?": "German",
    "Is German spoken in Prague?": "by some",
}
DOCUMENTS = {
    "novels.md": "# The Trial\nThe Trial is a novel that Franz Kafka wrote.\n",
    "people.md": "# Franz Kafka\nFranz Kafka was born in Prague and wrote in German.\n",
    "towns.md": "# Prague\nThe river Vltava flows through Prague. Some speak German in Prague.\n",
    "rivers.md": "# Vltava\nThe Vltava is a river, 430 km long.\n",
}


class Knowing:
    """A model that plans ``steps``, knows ``facts``, and retells its findings at the end."""

    def __init__(self, steps: Sequence[str], facts: Mapping[str, str] | None = None) -> None:
        self.steps, self.facts = list(steps), {**FACTS, **(facts or {})}

    def __call__(self, request: ChatRequest) -> Reply:
        """Answer as a good model would."""
        match kind_of(request):
            case "plan":
                told = json.dumps({"steps": self.steps})
            case "synthesis":
                found = request.question.rpartition("Findings:")[2].strip().replace("\n", " ")
                told = f"done\n\n{found}"
            case asked:
                told = step_reply(self.facts.get(asked))
        return Reply(told)


def write_documents(folder: Path) -> Path:
    """Write the documents."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def serve(provider: LoopbackProvider, steps: Sequence[str], **facts: str) -> None:
    """Let both loopback providers know the answers."""
    provider.ollama.models = ["qwen3:8b", "llama3.2:3b"]
    provider.ollama.respond = provider.huggingface.respond = Knowing(steps, facts)


def trail(provider: LoopbackProvider, docs: Path, **flags: object) -> Hoptrail:
    """Give a trail that asks the loopback providers, Hugging Face first."""
    own: dict[str, object] = {
        "huggingface_base_url": provider.huggingface_url,
        "ollama_host": provider.ollama_url,
        "token": "hf_loopback",
        "backends": "huggingface,ollama",
        "embedders": "hash",
    }
    return Hoptrail(docs=docs, settings=load_settings(**(own | flags)))


def asked(provider: LoopbackProvider) -> list[str]:
    """Give what was asked, of whichever provider, in order; and forget it."""
    chats = sorted(provider.huggingface.chats + provider.ollama.chats, key=lambda each: each.at)
    provider.huggingface.chats, provider.ollama.chats = [], []
    return [kind_of(chat) for chat in chats]
