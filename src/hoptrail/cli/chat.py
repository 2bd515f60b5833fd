"""``hoptrail chat``: a conversation that is kept, with a memory of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from hoptrail.cli.choice import documents_options, model_options

if TYPE_CHECKING:
    from hoptrail.cli.chatting import ChatFlags


_EXAMPLES = """\b
Examples:
  hoptrail chat
  hoptrail chat --docs notes/ --thread trip
  hoptrail chat -m ollama:qwen3:8b --user anna
  printf 'I live in Prague.\\nWhere do I live?\\n' | hoptrail chat

\b
In the conversation:
  /memory              what is remembered of you
  /remember TEXT       remember something
  /forget ID or WORDS  forget one fact, or those that say these words
  /new                 begin another conversation; what is remembered stays
  /help, /quit
"""


@click.command(short_help="Hold a conversation.", epilog=_EXAMPLES)
@documents_options
@model_options
@click.option(
    "--thread", metavar="NAME", help="Go on with this conversation, or begin it under this name."
)
@click.option(
    "--user", metavar="NAME", default="default", show_default=True, help="Whose memory it is."
)
@click.option("--no-memory", is_flag=True, help="Neither remember nor recall.")
def chat(**flags: Unpack[ChatFlags]) -> None:
    """Hold a conversation: one message a line, from the terminal or from a pipe.

    Answers go to stdout, everything else to stderr. What you say of yourself is remembered, in
    this conversation and in later ones; "remember that ...", "forget ..." and "what do you know
    about me?" do what they say. Ctrl-C stops an answer, at the prompt it leaves; so does Ctrl-D.
    """
    from hoptrail.cli.chatting import Chatting

    Chatting(flags).hold()
