"""Ask Hoptrail with OpenAI's own client: its steps are the reasoning, its answer the content.

It starts `hoptrail serve` over the example documents; yours may run anywhere.
"""

import re
import subprocess
import sys
from pathlib import Path

from openai import OpenAI

SERVE = [sys.executable, "-m", "hoptrail", "serve", "--port", "0", "--docs"]
QUESTION = "Which river flows through the birthplace of the composer of The Magic Flute?"


def main() -> None:
    corpus = str(Path(__file__).parent / "corpus")
    with subprocess.Popen([*SERVE, corpus], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(filter(None, (re.search(r"http://\S+", line) for line in server.stderr)))
        with OpenAI(base_url=f"{address[0]}/v1", api_key="none") as client:
            stream = client.chat.completions.create(
                model="hoptrail/multi-hop",
                messages=[{"role": "user", "content": QUESTION}],
                stream=True,
            )
            for chunk in stream:
                delta = chunk.choices[0].delta
                if step := getattr(delta, "reasoning_content", None):
                    print("…", step.strip())
                print(delta.content or "", end="")
            print("\nrun:", (chunk.model_extra or {})["hoptrail"]["run_id"])
        server.terminate()


if __name__ == "__main__":
    main()
