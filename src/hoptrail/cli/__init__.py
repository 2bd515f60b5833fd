"""The command line: answers on stdout, everything else on stderr.

Exit codes: 0 answer, 1 error, 2 usage, 3 no backend for what was asked, 4 abstained,
130 interrupted. Commands import what they need when they run, so that ``--help`` and the trace
commands load neither LangGraph nor a vendor.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from hoptrail.cli.ask import ask
from hoptrail.cli.chat import chat
from hoptrail.cli.config import config
from hoptrail.cli.doctor import doctor
from hoptrail.cli.failure import Commands
from hoptrail.cli.ingest import ingest
from hoptrail.cli.mcp import mcp
from hoptrail.cli.serve import serve
from hoptrail.cli.trace import trace

_EXAMPLES = """\b
Examples:
  hoptrail ask --docs notes/ "Which river flows through the birthplace of Kafka?"
  hoptrail ask -m ollama:qwen3:8b --stream "Who taught the teacher of Plato?"
  hoptrail trace show last
  hoptrail doctor

\b
Exit codes:
  0 answer   1 error   2 usage   3 no backend   4 abstained   130 interrupted
"""


@click.group(
    cls=Commands,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="hoptrail", prog_name="hoptrail")
@click.option("--debug", is_flag=True, help="On an error, show the traceback.")
def main(debug: bool) -> None:
    """Answer multi-hop questions with whichever of Hugging Face and Ollama is up."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a substitute rather than a traceback.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


for command in (ask, chat, ingest, serve, mcp, trace, doctor, config):
    main.add_command(command)
