"""The passages a step was given, with what each retriever said of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from hoptrail.terminal.answer import place
from hoptrail.terminal.marks import ACCENT, CITED, QUIET
from hoptrail.terminal.plain import one_line
from hoptrail.trace import TracedEvidence

RETRIEVERS = ("bm25", "dense", "fused", "graph")
_ROOMY = 80


def evidence_table(evidence: Sequence[TracedEvidence], width: int) -> Table:
    """Give rank, scores and place of each passage; a dot marks those the answer cites.

    On fewer than 80 columns, and for a retriever of the caller's, only the score it was ranked
    by is shown.
    """
    seen = {name for item in evidence for name in item.scores}
    shown = [name for name in RETRIEVERS if name in seen] if width >= _ROOMY else []
    table = Table(box=None, header_style=QUIET, padding=(0, 1), pad_edge=False)
    for head in ("#", "", *(shown or ["score"])):
        table.add_column(head, justify="right", style=QUIET, no_wrap=True)
    table.add_column("passage")
    for item in evidence:
        scores = [_score(item.scores.get(name)) for name in shown]
        title = place(item.passage.title, item.passage.source) or one_line(item.passage.id)
        table.add_row(
            Text(str(item.rank)),
            Text(CITED if item.cited else "", ACCENT),
            *(scores or [_score(item.score)]),
            Text(title, "" if item.cited else QUIET),
        )
    return table


def _score(value: float | None) -> Text:
    return Text("" if value is None else f"{value:.3g}")
