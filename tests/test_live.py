"""The same promises against real servers: start Ollama (`ollama serve`), or set HF_TOKEN."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from hoptrail import Hoptrail, load_settings
from hoptrail.assembly import Assembly

pytestmark = [pytest.mark.live, pytest.mark.anyio, pytest.mark.timeout(600)]

CORPUS = Path(__file__).parent.parent / "examples" / "corpus"


class Sum(BaseModel):
    """The result of an addition."""

    result: int


@pytest.fixture(params=["ollama", "huggingface"])
def assembly(request: pytest.FixtureRequest, tmp_path: Path) -> Assembly:
    settings = load_settings(backends=request.param, embedders="hash", home=tmp_path)
    return Assembly(given_settings=settings)


async def up(assembly: Assembly) -> None:
    found = (await assembly.router.availability())[0]
    if not found.up:
        pytest.skip(f"{found.backend}: {found.detail} ({found.fix})")


async def test_a_real_model_streams_and_says_who_it_is(assembly: Assembly) -> None:
    await up(assembly)
    whole = None
    async for chunk in assembly.router.astream("Name one river in Finland."):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.text
    assert whole.response_metadata["hoptrail"]["backend"] == assembly.settings.backends[0]


async def test_a_real_model_keeps_to_a_schema(assembly: Assembly) -> None:
    await up(assembly)
    found = await assembly.router.with_structured_output(Sum).ainvoke("What is 19 + 23?")
    assert found == Sum(result=42)


async def test_a_real_model_answers_a_two_hop_question(assembly: Assembly) -> None:
    await up(assembly)
    trail = Hoptrail(docs=CORPUS, settings=assembly.settings)
    answer = await trail.aask("Where was the director of Metropolis born?")
    assert "Vienna" in answer.text
    assert not answer.degraded
    trail.close()
