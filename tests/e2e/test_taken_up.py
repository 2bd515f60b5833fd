"""What a resumed run takes over from its earlier part, and what it says of that."""

import asyncio
import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from hoptrail import Hoptrail, load_settings
from hoptrail.cli import main
from hoptrail.journal import Journal
from hoptrail.request import StepRequest
from hoptrail.testing import Asked, ScriptedChatModel
from tests import two_hops

pytestmark = pytest.mark.anyio

NONE = "{}"
BORN = "Where was Franz Kafka born?"


async def interrupted(trail: Hoptrail, run_id: str, model: ScriptedChatModel, calls: int) -> None:
    """Begin a run and interrupt it during its ``calls``-th call."""

    async def hang(asked: Asked) -> None:
        if len(model.calls) == calls:
            under_way.set()
            await asyncio.Event().wait()

    under_way = asyncio.Event()
    model.wait = hang
    run = asyncio.ensure_future(trail.aask(two_hops.QUESTION, run_id=run_id))
    async with asyncio.timeout(40):
        await under_way.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    model.wait = None


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return two_hops.write_documents(tmp_path / "docs")


def trail_of(docs: Path, model: ScriptedChatModel) -> Hoptrail:
    return Hoptrail(docs, model=model, settings=load_settings(embedders="hash"))


@pytest.mark.promise("finished-calls-are-kept")
async def test_a_reply_that_was_none_is_kept_like_one_that_was(docs: Path) -> None:
    model = two_hops.model()
    answer = model.respond

    def evasive(asked: Asked) -> object:
        step = isinstance(asked.request, StepRequest) and asked.request.question == BORN
        first = sum(each.question == BORN for each in model.calls) == 1
        return NONE if step and first else answer(asked)

    model.respond = evasive  # type: ignore[assignment] # its answers are those of another one
    with closing(trail_of(docs, model)) as trail:
        # A plan, a step, a reply that is none, and the call that asks again.
        await interrupted(trail, "r1", model, calls=4)
        before = len(model.calls)
        found = await trail.aask(two_hops.QUESTION, run_id="r1")
    assert found.short == "Prague"
    assert model.questions[before:].count(BORN) == 1
    assert [call.from_journal for call in found.trace.steps[1].calls] == [True, False]


@pytest.mark.promise("killed-runs-resume")
async def test_a_resume_over_other_documents_says_so(docs: Path, tmp_path: Path) -> None:
    model = two_hops.model()
    with closing(trail_of(docs, model)) as trail:
        await interrupted(trail, "r1", model, calls=3)
        await interrupted(trail, "r2", model, calls=len(model.calls) + 3)
        same = await trail.aask(two_hops.QUESTION, run_id="r2")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(docs, elsewhere)
    with closing(trail_of(elsewhere, model)) as trail:
        other = await trail.aask(two_hops.QUESTION, run_id="r1")
    assert same.trace.resumed
    assert other.trace.resumed
    assert not same.warnings
    assert other.warnings == (
        f"what is kept of run r1 was answered from {docs}, the rest from {elsewhere}",
    )


@pytest.mark.promise("killed-runs-resume")
def test_killed_before_its_flags_were_kept_a_run_is_not_resumed_over_no_documents(
    tmp_path: Path, docs: Path
) -> None:
    with closing(Journal(load_settings().home)) as journal:
        options: dict[str, object] = {"documents": str(docs), "graph": "iterative"}
        journal.admit("r1", two_hops.QUESTION, options).release()
    ask = ["ask", "--resume", "r1"]
    settings = {"HOPTRAIL_BACKENDS": "extractive", "HOPTRAIL_EMBEDDERS": "hash"}
    refused = CliRunner().invoke(main, ask, env=settings)
    assert refused.exit_code == 2
    assert f"answered from {docs}" in "".join(refused.stderr.split("\n"))
    resumed = CliRunner().invoke(main, [*ask, "--json", "--docs", str(docs)], env=settings)
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["short_answer"] == "Prague"
    with closing(Journal(load_settings().home)) as journal:
        assert journal.trace("r1").graph == "iterative"
