"""The keys of the settings are in nothing that a command prints, and in no copy of the settings."""

import copy
import pickle
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from langchain_core.load import dumps

from hoptrail import Hoptrail, load_settings
from hoptrail.cli import main
from hoptrail.errors import SettingsError
from hoptrail.huggingface_client import get_huggingface_client
from hoptrail.settings import origins
from tests import two_hops
from tests.canaries import CANARIES, leaks
from tests.providers import Fault, LoopbackProvider, Reply
from tests.sinks import Sinks, keys

pytestmark = pytest.mark.promise("secrets-stay-in")

KEY = CANARIES["token"]
RUN = ("--run-id", "mine")
COMMANDS = (
    (),
    ("--help",),
    *((name, "--help") for name in ("ask", "chat", "serve", "mcp", "ingest", "doctor", "config")),
    ("config", "show"),
    ("doctor",),
    ("doctor", "--json"),
    ("ask", two_hops.QUESTION, "--docs", "docs"),
    ("ask", two_hops.QUESTION, "--docs", "docs", "--json", "--trace-html", "page.html"),
    ("ask", two_hops.QUESTION, "--docs", "docs", "--stream", "--graph", "iterative"),
    ("ask", f"Is {KEY} a key?", "--docs", "docs", "--json"),
    ("ask", "?", "-m", KEY),
    ("chat", "--docs", "docs"),
    ("ingest", "docs"),
    ("trace", "list", "--json"),
    ("trace", "show", "last"),
    ("trace", "show", "last", "--json"),
    ("trace", "html", "last", "-o", "other.html"),
    ("trace", "diff", "last", "last"),
    ("trace", "otlp", "last", "--content"),
    ("trace", "rerun", "last", "-q"),
    ("trace", "schema"),
)
MISTAKEN = ("HOPTRAIL_MAX_STEPS", "HOPTRAIL_BACKENDS", "HUGGINGFACE_BASE_URL", "HOPTRAIL_TOOLS")


def telling(request: object) -> Reply:
    """Answer with the key in it."""
    right = two_hops.respond(request)  # type: ignore[arg-type]  # it is a chat request
    return Reply(right.text.replace("Prague", f"Prague {KEY}"))


@pytest.fixture
def shell(provider: LoopbackProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A shell whose environment is full of keys, and whose Hugging Face repeats them."""
    two_hops.write_documents(tmp_path / "docs")
    (tmp_path / "docs" / "keys.md").write_text(f"# Keys\nThe Trial needs {KEY}.\n")
    saved = Path.home() / ".cache" / "huggingface"
    saved.mkdir(parents=True)
    (saved / "token").write_text(CANARIES["login"], encoding="utf-8")
    proxy = f"http://me:{CANARIES['proxy']}@127.0.0.1:9"
    environment = {
        "HF_TOKEN": KEY,
        "HOPTRAIL_API_TOKEN": CANARIES["api_token"],
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={quote(CANARIES['otlp_headers'])}",
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
        "HUGGINGFACE_BASE_URL": provider.huggingface_url,
        "OLLAMA_HOST": provider.ollama_url,
        "HOPTRAIL_BACKENDS": "huggingface",
        "HOPTRAIL_EMBEDDERS": "huggingface,hash",
        "HOPTRAIL_DEADLINE": "5",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    provider.huggingface.respond = telling
    provider.huggingface.embed_fault = Fault("bad_token", echo=True)
    return CliRunner()


@pytest.mark.timeout(180)
def test_no_key_is_in_what_a_command_prints_or_leaves(
    shell: CliRunner, tmp_path: Path, provider: LoopbackProvider
) -> None:
    found = {}
    for fault in (None, Fault("status", status=401, message=f"no: {KEY}", echo=True)):
        provider.huggingface.fault = provider.huggingface.probe_fault = fault
        for command in COMMANDS:
            sinks = Sinks()
            with sinks.logs():
                result = shell.invoke(main, command, input="Hello.\nI live in Prague.\n")
            sinks.take("printed", result.output)
            if result.exception and not isinstance(result.exception, SystemExit):
                sinks.take_error(result.exception)
            if sinks.found:
                found[" ".join(command)] = sinks.found
    sinks = Sinks()
    sinks.take_files(tmp_path / "home")
    for page in tmp_path.glob("*.html"):
        sinks.take("page", page.read_bytes())
    assert not found, "\n".join(f"{command}: {leaks}" for command, leaks in found.items())
    assert set(sinks.found) == {"files indexes"}, "an index is a copy of documents, as they are"


@pytest.mark.parametrize("name", MISTAKEN)
@pytest.mark.parametrize("value", [KEY, f"http://me:{CANARIES['proxy']}@127.0.0.1:9"])
def test_no_key_is_in_the_words_on_a_bad_setting(
    shell: CliRunner, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    for command in (("config", "show"), ("doctor",), ("ask", "Why?")):
        assert not leaks(shell.invoke(main, command).output)


def test_no_key_is_in_a_copy_of_the_settings_or_of_what_is_made_of_them(
    provider: LoopbackProvider,
) -> None:
    settings = load_settings(**keys(), huggingface_base_url=provider.huggingface_url)
    trail = Hoptrail(settings=settings)
    made = [settings, trail, trail.assembly, trail.assembly.parts, get_huggingface_client(settings)]
    made += [
        *trail.assembly.backends,
        trail.assembly.embedders,
        trail.assembly.router,
        settings.secrets,
    ]
    told = [f"{each} {each!r}" for each in made]
    told += [settings.model_dump_json(), repr(settings.model_dump()), repr(origins(settings))]
    told += [dumps(trail.assembly.router), repr(trail.assembly.router.model_dump())]
    told += [repr(copy.copy(settings)), repr(copy.deepcopy(settings))]
    assert not leaks("\n".join(told))
    with pytest.raises(TypeError, match="keys"):
        pickle.dumps(settings)
    trail.close()


def test_no_key_is_in_the_error_of_a_value_that_cannot_be_used() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(max_steps=KEY, token=KEY)
    assert not leaks(f"{raised.value} {raised.value!r}")
