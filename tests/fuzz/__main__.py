"""``python -m tests.fuzz NAME [libFuzzer's flags]``: one target under atheris."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fuzz import FOUND, TARGETS, target

_LONGEST = 4096


def main(name: str, *flags: str) -> None:
    """Run a target until it breaks or its time is over; what broke it goes to ``found``."""
    if sys.platform != "linux":
        sys.exit("make fuzz needs Linux: atheris comes with its own libFuzzer, built for it alone.")
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore] # a group of its own

    with atheris.instrument_imports(include=["hoptrail"]):
        fuzzed = target(name)
    for path in fuzzed.found:
        fuzzed.check(path.read_bytes())
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(fuzzed.seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        words = Path(folder, "words")
        words.write_text("\n".join(map(_entry, fuzzed.words)), encoding="ascii")
        arguments = [
            f"-dict={words}",
            f"-artifact_prefix={found}/",
            f"-max_len={_LONGEST}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *arguments, *flags, str(corpus)], fuzzed.check)
        atheris.Fuzz()


def _entry(word: str) -> str:
    """Give a word as libFuzzer's dictionaries write it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [-max_total_time=60 ...]")
    main(*sys.argv[1:])
