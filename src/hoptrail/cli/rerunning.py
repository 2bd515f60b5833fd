"""The course of one ``hoptrail trace rerun``: as an `Asking`, but of what another run asked."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from rich.text import Text

from hoptrail.cli.asking import Asking, Events
from hoptrail.cli.past_runs import open_journal
from hoptrail.terminal.marks import QUIET
from hoptrail.terminal.plain import one_line

if TYPE_CHECKING:
    from hoptrail.answer import Answer
    from hoptrail.change import Change
    from hoptrail.cli.wish import Wish
    from hoptrail.trail import Hoptrail


class Rerunning(Asking):
    """One fork on its way; `answer` sees it through."""

    def __init__(self, wish: Wish, change: Change) -> None:
        super().__init__(wish)
        self._change = change

    def _begun(self, trail: Hoptrail) -> Events:
        from hoptrail.background import background

        told = trail.astream_rerun(self._wish.parent, self._change, new_run_id=self._run_id)
        return background().iterate(told)

    def _report(self, answer: Answer) -> None:
        super()._report(answer)
        with closing(open_journal()) as journal:
            parent = journal.trace(self._wish.parent)
        had = sum(1 for call in parent.calls() if not call.error)
        made = [call.from_run for call in answer.trace.calls() if not call.error]
        kept = sum(1 for by in made if by)
        told = (
            f"kept {kept} of the {had} calls of {parent.run_id}, made {len(made) - kept}; "
            f"compare: hoptrail trace diff {parent.run_id} {answer.run_id}"
        )
        self._err.print(Text(one_line(told), QUIET), soft_wrap=True)
