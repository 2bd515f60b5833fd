"""Ask a 3-hop question over a folder of documents; no key or server is needed.

With HF_TOKEN set, or Ollama running, the very same lines use them.
"""

from pathlib import Path

from hoptrail import Hoptrail

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    trail = Hoptrail(docs=CORPUS)
    answer = trail.ask(
        "Which river flows through the birthplace of the composer of The Magic Flute?"
    )
    print(answer.text)
    for number, citation in enumerate(answer.citations, start=1):
        print(f"[{number}] {citation.title}: “{citation.quote}”")
    print("degraded:", answer.degraded, "· backends:", answer.trace.model_policy)
    trail.close()


if __name__ == "__main__":
    main()
