"""The README says what is so: a test runs every block of it, in order, in one shell.

A fence's first word is its language, and says what is done with it:

- ``bash`` is pasted; its commands have to succeed;
- ``console`` holds commands after ``$ `` and under each what it prints (``…`` is anything);
- ``python`` and ``js`` are run by ``python`` and ``node``, warnings of Python being errors;
- ``text output`` is what the block before it prints;
- ``mermaid``, ``text``, ``json`` and ``html`` are only read.

``skip="why"`` in the fence's line keeps a block from being run; a block that needs a program
this machine does not have is skipped here. Servers go to the background (``hoptrail serve
--port 8700 &``) and stay there for the blocks below.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from hoptrail.cli import main
from hoptrail.graph import build_graph
from hoptrail.journal import Journal
from hoptrail.parts import Parts
from hoptrail.testing import ScriptedChatModel, script
from tests.ports import free_port
from tests.shell import Output, Shell

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = ("bash", "console", "python", "js")
READ = ("mermaid", "text", "json", "html")
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SKIP = re.compile(r'\bskip="([^"]+)"')
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
PORT = "8700"
"""The port of the README; the tests take a free one, as somebody may be using it."""
PROGRAMS = ("curl", "node")


@dataclass
class Block:
    language: str
    info: str
    text: str
    line: int
    output: str | None = None

    @property
    def why_skipped(self) -> str | None:
        """Give the reason written in the fence, or the program that is missing here."""
        written = SKIP.search(self.info)
        if written:
            return written.group(1)
        needed = {"console": "bash", "js": "node"}.get(self.language, self.language)
        for program in (needed, *PROGRAMS):
            mentioned = program == needed or re.search(rf"\b{program}\b", self.text)
            if mentioned and not shutil.which(program):
                return f"there is no {program} on this machine"
        return None


def blocks_of(readme: str) -> list[Block]:
    found: list[Block] = []
    for fence in FENCE.finditer(readme):
        language, _, info = fence.group(1).partition(" ")
        if language == "text" and "output" in info:
            found[-1].output = fence.group(2)
        line = readme.count("\n", 0, fence.start(2)) + 1
        found.append(Block(language, info, fence.group(2), line))
    return found


BLOCKS = blocks_of(README)
TO_RUN = [block for block in BLOCKS if block.language in RUN]


@dataclass
class Reader:
    """Runs the blocks from the top; each once."""

    shell: Shell
    port: str
    results: list[list[tuple[Output, str | None]]] = field(default_factory=list)

    def at(self, block: Block) -> list[tuple[Output, str | None]]:
        """Give what each command of the block printed, and what it should have."""
        place = TO_RUN.index(block)
        for due in TO_RUN[len(self.results) : place + 1]:
            self.results.append([] if due.why_skipped else self._run(due))
        return self.results[place]

    def _run(self, block: Block) -> list[tuple[Output, str | None]]:
        if block.language == "console":
            pairs = [(found.group(1), found.group(2)) for found in COMMAND.finditer(block.text)]
        else:
            pairs = [(self._command(block), block.output)]
        return [
            (self.shell.paste(command.replace(PORT, self.port)), self._expected(expected))
            for command, expected in pairs
        ]

    def _command(self, block: Block) -> str:
        if block.language == "bash":
            return block.text
        suffix, program = {"python": ("py", "python -W error"), "js": ("mjs", "node")}[
            block.language
        ]
        # In the folder itself, so that what it imports is found; on the README's own lines.
        name = f"readme-{block.line}.{suffix}"
        lines = "\n" * (block.line - 1) + block.text.replace(PORT, self.port)
        (self.shell.folder / name).write_text(lines, encoding="utf-8")
        return f"{program} {self.shell.folder / name}"

    def _expected(self, output: str | None) -> str | None:
        return None if output is None else output.replace(PORT, self.port)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader in a copy of this folder, with nothing configured and no backend up."""
    scratch = tmp_path_factory.mktemp("reader")
    folder = scratch / "hoptrail"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    (scratch / "user").mkdir()
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(scratch / "user"),
        "HOPTRAIL_HOME": str(scratch / "home"),
        "OLLAMA_HOST": "127.0.0.1:9",  # where nobody answers, whatever runs on this machine
        "COLUMNS": "100",
        "LANG": "C.UTF-8",
    }
    shell = Shell(folder, scratch, environment)
    yield Reader(shell, str(free_port()))
    shell.close()


def pattern_of(expected: str) -> re.Pattern[str]:
    """Give a pattern that takes any white space for any other, and anything for ``…``."""
    pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in expected.split("…")]
    return re.compile(r"\s*" + r"\s*.*\s*".join(pieces) + r"\s*", re.DOTALL)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", TO_RUN, ids=lambda block: f"line {block.line} {block.language}")
def test_a_block_runs_as_pasted(block: Block, reader: Reader) -> None:
    if block.why_skipped:
        pytest.skip(block.why_skipped)
    for done, expected in reader.at(block):
        assert done.status == 0, done.out + done.err
        if expected:
            assert pattern_of(expected).fullmatch(done.out), done.out


def test_every_fence_says_what_is_done_with_it() -> None:
    unknown = [block.line for block in BLOCKS if block.language not in (*RUN, *READ)]
    assert not unknown, f"fences without a language this file knows, by line: {unknown}"
    assert README.count("\n```") + README.startswith("```") == 2 * len(BLOCKS)


def test_a_block_is_skipped_for_a_written_reason_only() -> None:
    skipped = [block.text.split()[:2] for block in TO_RUN if SKIP.search(block.info)]
    assert skipped == [["make", "demo"], ["pip", "install"]]
    assert len(TO_RUN) >= 2 + len(skipped)


def test_every_command_named_in_passing_exists() -> None:
    named = re.findall(r"`hoptrail ([^`\n]+)`", README)
    assert named
    for words in named:
        command: click.Command = main
        with click.Context(command) as context:
            for word in words.split():
                if word.startswith("-"):
                    flags = {flag for option in command.params for flag in option.opts}
                    assert word in flags | {"--help", "-h"}, f"hoptrail {words}"
                elif isinstance(command, click.Group):
                    inner = command.get_command(context, word)
                    assert inner is not None, f"hoptrail {words}"
                    command = inner


def test_every_make_target_and_benchmark_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for module in re.findall(r"`python -m (benchmarks\.\w+)", README):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_every_file_named_in_the_table_exists() -> None:
    table = README.partition("## Where is what")[2].partition("\n## ")[0]
    named = re.findall(r"`([\w/]+(?:\.py|\.json|/))`", table)
    assert named
    for name in named:
        places = (ROOT / name, ROOT / "src" / "hoptrail" / name)
        assert any(place.exists() for place in places), name


def test_the_graph_is_drawn_as_it_is(tmp_path: Path) -> None:
    (shown,) = [block.text for block in BLOCKS if block.language == "mermaid"]
    parts = Parts(
        model=ScriptedChatModel(respond=script()), journal=Journal(tmp_path), policy="scripted"
    )
    drawn = build_graph(parts).compile().get_graph().draw_mermaid()
    arrows = re.compile(r"^\s*(\w+ -[-.]+> \w+);", re.MULTILINE)
    assert arrows.findall(shown) == arrows.findall(drawn)
