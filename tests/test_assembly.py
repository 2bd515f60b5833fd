"""Assembly: every part from the settings, nothing opened, nobody asked."""

from pathlib import Path

import pytest

from hoptrail import SettingsError, load_settings
from hoptrail.assembly import Assembly
from tests.providers import LoopbackProvider

pytestmark = pytest.mark.anyio


def test_backends_stand_in_the_order_of_the_settings() -> None:
    settings = load_settings(backends="ollama,extractive,huggingface", ollama_model="qwen3:8b")
    assembly = Assembly(given_settings=settings)
    assert assembly.router.policy == (
        "ollama:qwen3:8b > extractive > huggingface:openai/gpt-oss-20b"
    )


def test_building_everything_touches_no_file_and_nobody(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    settings = load_settings(
        token="hf_secret",
        huggingface_base_url=provider.huggingface_url,
        ollama_host=provider.ollama_url,
        home=tmp_path / "home",
    )
    parts = Assembly(docs=tmp_path / "nowhere", given_settings=settings).parts
    assert parts.routed
    assert parts.documents == str(tmp_path / "nowhere")
    assert not (tmp_path / "home").exists()
    assert sum(provider.calls.values()) == 0


async def test_the_token_goes_to_its_host_alone(provider: LoopbackProvider) -> None:
    settings = load_settings(
        token="hf_secret",
        huggingface_base_url=provider.huggingface_url,
        ollama_host=provider.ollama_url,
    )
    provider.ollama.models = ["qwen3:8b", "all-minilm"]
    assembly = Assembly(given_settings=settings)
    await assembly.router.ainvoke("Hello?")
    await (await assembly.embedders.first()).embed(["a"], "query")
    provider.huggingface.stop()
    await assembly.router.ainvoke("Hello again?")
    told = [call.headers.get("authorization") for call in provider.huggingface.chats]
    assert told == ["Bearer hf_secret"]
    assert provider.huggingface.embeddings[0].headers["authorization"] == "Bearer hf_secret"
    assert len(provider.ollama.chats) == 1
    assert all("authorization" not in call.headers for call in provider.ollama.chats)
    provider.huggingface.start()


def test_the_saved_login_stays_with_hugging_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_saved", encoding="utf-8")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    own = load_settings(huggingface_base_url="http://127.0.0.1:1")
    assert "hf_saved" not in str(vars(Assembly(given_settings=own).backends[0]))
    theirs = load_settings()
    assert "hf_saved" in str(vars(Assembly(given_settings=theirs).backends[0]))


def test_documents_named_by_hand_go_before_those_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(docs=tmp_path / "usual")
    assert Assembly(given_settings=settings).parts.documents == str(tmp_path / "usual")
    asked = Assembly(docs=tmp_path / "these", given_settings=settings)
    assert asked.parts.documents == str(tmp_path / "these")
    indexed = Assembly(index=tmp_path / "index", given_settings=settings)
    assert indexed.parts.documents == str(tmp_path / "index")


def test_documents_are_the_same_wherever_they_are_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell keeps them absolute, a server is given them as they are: forks compare the two."""
    monkeypatch.chdir(tmp_path)
    for named in (Assembly(docs="notes"), Assembly(docs=tmp_path / "notes")):
        assert named.parts.documents == str(tmp_path / "notes")
    assert Assembly(docs=["notes", "more"]).parts.documents == f"{tmp_path}/notes, {tmp_path}/more"
    assert Assembly(index="index").parts.documents == str(tmp_path / "index")
    assert Assembly().parts.documents == ""
    assert Assembly(docs=["notes", "more"]).documents == "notes, more"


def test_without_documents_there_is_no_search() -> None:
    assembly = Assembly(given_settings=load_settings())
    assert assembly.corpus is None
    assert assembly.parts.search is None


def test_the_budget_is_that_of_the_settings() -> None:
    settings = load_settings(max_steps=3, max_llm_calls=5, deadline=7.0, max_tokens=100)
    budget = Assembly(given_settings=settings).parts.budget
    assert (budget.max_steps, budget.max_llm_calls, budget.deadline, budget.max_tokens) == (
        3,
        5,
        7.0,
        100,
    )


def test_what_is_no_tool_is_refused_in_words() -> None:
    def plain(text: str) -> str:
        return text

    assembly = Assembly(tools=[plain], given_settings=load_settings())  # type: ignore[list-item]
    with pytest.raises(SettingsError, match="tools= takes LangChain tools, and <function"):
        _ = assembly.parts
