"""Run the loopback providers in a process of their own: ``python -m tests.providers``.

Prints the two addresses as environment settings, one a line, then serves until it is interrupted
or terminated. ``--script FILE`` is a JSON object with a member for each side::

    {"huggingface": {"answers": {"capital": "Paris"}, "reply": {"tokens_per_second": 50},
                     "fault": {"kind": "out_of_credit"}, "dialect": "together"},
     "ollama": {"models": ["qwen3:8b"], "num_parallel": 1}}

``answers`` maps parts of the last user message to texts, ``reply`` gives the pace of every
answer, ``fault`` / ``embed_fault`` / ``probe_fault`` are the arguments of a Fault, and all other
members are attributes of the side.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.providers.fault import Fault
from tests.providers.loopback import LoopbackProvider
from tests.providers.script import Answer, ChatRequest, Reply, Respond, echo, scripted
from tests.providers.side import Side

ENDS = {signal.SIGINT, signal.SIGTERM}


def configure(side: Side, settings: dict[str, Any]) -> None:
    """Set up one side as its part of the script file says."""
    rest = dict(settings)
    answers, pace = rest.pop("answers", None), rest.pop("reply", {})
    side.respond = paced(scripted(answers) if answers else echo, pace)
    for name, value in rest.items():
        if not hasattr(side, name):
            raise SystemExit(f"{side.name} has no {name!r}")
        setattr(side, name, Fault(**value) if name.endswith("fault") else value)


def paced(respond: Respond, pace: dict[str, Any]) -> Respond:
    """The same answers, at this pace."""

    def answer(request: ChatRequest) -> Answer:
        given = respond(request)
        return replace(Reply(given) if isinstance(given, str) else given, **pace)

    return answer


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.providers")
    parser.add_argument("--port", type=int, default=0, help="Hugging Face; Ollama is the next one")
    parser.add_argument("--script", type=Path, help="JSON file, see the docstring")
    arguments = parser.parse_args()
    script = json.loads(arguments.script.read_text("utf-8")) if arguments.script else {}
    ollama_port = arguments.port + 1 if arguments.port else 0
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    with LoopbackProvider(arguments.port, ollama_port) as provider:
        configure(provider.huggingface, script.get("huggingface", {}))
        configure(provider.ollama, script.get("ollama", {}))
        sys.stdout.write(f"HUGGINGFACE_BASE_URL={provider.huggingface_url}\n")
        sys.stdout.write(f"OLLAMA_HOST={provider.ollama_url}\n")
        sys.stdout.flush()
        signal.sigwait(ENDS)


if __name__ == "__main__":
    main()
