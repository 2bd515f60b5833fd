"""The settings: which source wins, what is read from where, and that no secret is shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path

import platformdirs
import pytest
from pydantic import SecretStr, ValidationError

from hoptrail.addresses import is_own_host, ollama_address
from hoptrail.errors import SettingsError
from hoptrail.settings import (
    HUGGINGFACE_URL,
    Settings,
    load_settings,
    origins,
    variables,
)

SECRET = "hf_aVerySecretToken"
EXAMPLE = Path(__file__).parents[1] / ".env.example"
TOKEN_NAMES = ["HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "HUGGINGFACE_API_KEY"]


@pytest.fixture(autouse=True)
def empty_folders(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of any kind: also none of the test run's own, and no config folder."""
    for name in list(os.environ):
        if name.startswith(("HOPTRAIL_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_variables(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_variables


def dotenv(*lines: str) -> None:
    Path(".env").write_text("\n".join(lines), encoding="utf-8")


def toml(*lines: str) -> None:
    Path("hoptrail.toml").write_text("\n".join(lines), encoding="utf-8")


def user_toml(*lines: str) -> Path:
    path = platformdirs.user_config_path("hoptrail") / "hoptrail.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def saved_login(token: str = SECRET, folder: str = "~/.cache/huggingface") -> None:
    path = Path(folder).expanduser() / "token"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(token + "\n", encoding="utf-8")


def origin(settings: Settings, variable: str) -> tuple[str, str]:
    [found] = [each for each in origins(settings) if each.name == variable]
    return found.value, found.origin


def token(settings: Settings) -> str | None:
    return settings.token.get_secret_value() if settings.token else None


# Which source wins

SOURCES = ("flag", "environment", ".env", "hoptrail.toml", "user", "default")


@pytest.mark.parametrize(("stronger", "weaker"), [*combinations(range(6), 2)])
def test_of_two_sources_the_stronger_one_wins(
    stronger: int, weaker: int, environment: Callable[..., None]
) -> None:
    """Each pair of sources; the value of each is 10 + its place in the order."""
    labels = list(SOURCES)
    flags: dict[str, object] = {}
    for place in {stronger, weaker} - {5}:
        value = 10 + place
        if place == 0:
            flags["max_steps"] = value
        elif place == 1:
            environment(HOPTRAIL_MAX_STEPS=str(value))
            labels[1] = "environment HOPTRAIL_MAX_STEPS"
        elif place == 2:
            dotenv(f"HOPTRAIL_MAX_STEPS={value}")
        elif place == 3:
            toml(f"max_steps = {value}")
        else:
            labels[4] = str(user_toml(f"max_steps = {value}"))
    settings = load_settings(**flags)
    assert settings.max_steps == 10 + stronger
    assert origin(settings, "HOPTRAIL_MAX_STEPS") == (str(10 + stronger), labels[stronger])


def test_without_any_source_there_are_defaults() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert {each.origin for each in origins(settings)} == {"default"}
    assert settings.warnings == ()
    assert settings.hf_model == "openai/gpt-oss-20b"
    assert settings.backends == ("huggingface", "ollama", "local", "extractive")
    assert settings.home == platformdirs.user_data_path("hoptrail")


def test_what_is_not_given_or_empty_leaves_the_weaker_source(
    environment: Callable[..., None],
) -> None:
    environment(HOPTRAIL_HF_MODEL=" ", HOPTRAIL_TOP_K="")
    dotenv("HOPTRAIL_HF_MODEL=from/dotenv")
    toml("top_k = 7")
    settings = load_settings(hf_model=None)
    assert (settings.hf_model, settings.top_k) == ("from/dotenv", 7)


def test_a_plain_settings_object_reads_nothing(environment: Callable[..., None]) -> None:
    environment(HOPTRAIL_MAX_STEPS="3", HF_TOKEN=SECRET)
    assert (Settings().max_steps, Settings().token) == (8, None)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().max_steps = 3  # type: ignore[misc]  # that it is refused is the test


def test_every_kind_of_value_is_read(environment: Callable[..., None]) -> None:
    environment(
        HOPTRAIL_BACKENDS="ollama, extractive",
        HOPTRAIL_HOME="~/trails",
        HOPTRAIL_DEADLINE="1.5",
        HOPTRAIL_MAX_TOKENS="9000",
        HOPTRAIL_HF_MODEL=" a/model\n",
    )
    toml('embedders = ["hash"]', 'local_embedding_path = "models/minilm"')
    settings = load_settings()
    assert settings.backends == ("ollama", "extractive")
    assert settings.embedders == ("hash",)
    assert settings.home == Path.home() / "trails"
    assert settings.local_embedding_path == Path("models/minilm")
    assert (settings.deadline, settings.max_tokens) == (1.5, 9000)
    assert settings.hf_model == "a/model"


# The token


@pytest.mark.parametrize("name", TOKEN_NAMES)
def test_each_name_of_the_token_is_read(name: str, environment: Callable[..., None]) -> None:
    environment(**{name: f" {SECRET}\n"})
    settings = load_settings()
    assert token(settings) == SECRET
    assert origin(settings, "HF_TOKEN") == ("hf_…", f"environment {name}")


@pytest.mark.parametrize("at", [0, 1])
def test_the_first_name_of_the_token_wins(at: int, environment: Callable[..., None]) -> None:
    environment(**{name: f"token {place}" for place, name in enumerate(TOKEN_NAMES) if place >= at})
    assert token(load_settings()) == f"token {at}"


def test_an_empty_token_is_none_and_the_next_name_is_read(
    environment: Callable[..., None],
) -> None:
    environment(HF_TOKEN="", HUGGINGFACE_API_KEY="third")
    assert token(load_settings()) == "third"
    assert load_settings(token="").token is None


def test_any_name_in_the_environment_beats_the_first_name_in_dotenv(
    environment: Callable[..., None],
) -> None:
    environment(HUGGINGFACE_API_KEY="environment")
    dotenv("HF_TOKEN=dotenv")
    assert token(load_settings()) == "environment"


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ({}, "~/.cache/huggingface"),
        ({"XDG_CACHE_HOME": "~/xdg"}, "~/xdg/huggingface"),
        ({"HF_HOME": "$HOME/hf"}, "~/hf"),
        ({"HF_HOME": "~/hf", "HF_TOKEN_PATH": "~/other/token"}, "~/other"),
    ],
)
def test_the_saved_login_is_found(
    variable: dict[str, str], folder: str, environment: Callable[..., None]
) -> None:
    environment(**variable)
    saved_login(folder=folder)
    settings = load_settings()
    assert token(settings) == SECRET
    assert origin(settings, "HF_TOKEN") == ("hf_…", "hf login")


def test_the_saved_login_goes_to_hugging_face_alone(environment: Callable[..., None]) -> None:
    saved_login()
    settings = load_settings()
    assert settings.token_for(HUGGINGFACE_URL) == SecretStr(SECRET)
    assert settings.token_for("http://localhost:8080") is None
    environment(HUGGINGFACE_BASE_URL="http://localhost:8080/v1")
    settings = load_settings()
    assert settings.token is None
    assert settings.token_for(settings.huggingface_base_url) is None
    assert settings.token_for("https://x.endpoints.huggingface.cloud") == SecretStr(SECRET)


def test_a_token_that_was_set_is_sent_where_one_asks(environment: Callable[..., None]) -> None:
    saved_login("hf_saved")
    environment(HF_TOKEN=SECRET)
    settings = load_settings()
    assert settings.token_for("http://localhost:8080") == SecretStr(SECRET)
    assert settings.token_for(HUGGINGFACE_URL) == SecretStr(SECRET)
    assert Settings(token=SecretStr(SECRET)).token_for("http://tei") == SecretStr(SECRET)


def test_the_saved_login_can_be_turned_off(environment: Callable[..., None]) -> None:
    saved_login()
    environment(HF_HUB_DISABLE_IMPLICIT_TOKEN="1")
    settings = load_settings()
    assert (settings.token, settings.token_for(HUGGINGFACE_URL)) == (None, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_an_unreadable_login_is_none(content: bytes) -> None:
    saved_login()
    Path("~/.cache/huggingface/token").expanduser().write_bytes(content)
    assert load_settings().token is None


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://huggingface.co", True),
        ("https://router.huggingface.co/v1", True),
        ("https://me-space.hf.space", True),
        ("https://a.eu-west-1.aws.endpoints.huggingface.cloud", True),
        ("http://router.huggingface.co", False),
        ("https://evilhuggingface.co", False),
        ("https://huggingface.co.evil.com", False),
        ("https://evil.com/huggingface.co", False),
        ("https://huggingface.co@evil.com", False),
        ("https://[bad", False),
        ("", False),
    ],
)
def test_own_hosts_are_told_by_their_whole_name(url: str, own: bool) -> None:
    assert is_own_host(url) == own


# Addresses


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("https://router.huggingface.co/v1", "https://router.huggingface.co"),
        ("https://router.huggingface.co/v1/", "https://router.huggingface.co"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://localhost:8080/tgi/v1/chat/completions", "http://localhost:8080/tgi"),
        ('"https://h.hf.space/"', "https://h.hf.space"),
    ],
)
def test_the_hugging_face_address_is_the_same_with_or_without_v1(given: str, address: str) -> None:
    assert load_settings(huggingface_base_url=given).huggingface_base_url == address


@pytest.mark.parametrize(
    "given",
    ["https://api-inference.huggingface.co", "https://api-inference.huggingface.co/models/gpt2"],
)
def test_the_dead_host_is_replaced_and_explained(
    given: str, environment: Callable[..., None]
) -> None:
    environment(HUGGINGFACE_BASE_URL=given, HUGGINGFACE_EMBEDDING_URL=given)
    settings = load_settings()
    assert settings.huggingface_base_url == HUGGINGFACE_URL
    assert settings.huggingface_embedding_url is None
    for name, warning in zip(["BASE", "EMBEDDING"], settings.warnings, strict=True):
        assert "410" in warning
        assert f"HUGGINGFACE_{name}_URL" in warning


@pytest.mark.parametrize("given", ["localhost:4317", "grpc://h:4317", "me:pass-word@h"])
def test_an_endpoint_of_another_protocol_is_left_to_others(
    given: str, environment: Callable[..., None]
) -> None:
    environment(OTEL_EXPORTER_OTLP_ENDPOINT=given, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://h/t")
    settings = load_settings()
    assert (settings.otlp_endpoint, settings.otlp_traces_endpoint) == ("", "http://h/t")
    (warning,) = settings.warnings
    assert warning.startswith("OTEL_EXPORTER_OTLP_ENDPOINT is no http:// or https:// address")
    assert "4318" in warning
    assert "pass-word" not in warning


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("h", "http://h:11434"),
        ("h:1234", "http://h:1234"),
        ("http://h", "http://h:80"),
        ("https://h", "https://h:443"),
        ("http://h:1234", "http://h:1234"),
        ("https://h/ollama/", "https://h:443/ollama"),
        ("h/path", "http://h:11434/path"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://0.0.0.0:1234", "http://127.0.0.1:1234"),
        (":1234", "http://127.0.0.1:1234"),
        (":0", "http://127.0.0.1:0"),
        ("ollama.com", "https://ollama.com:443"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("[::]", "http://[::1]:11434"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:443"),
        (' "h:1234" ', "http://h:1234"),
        ("'h'", "http://h:11434"),
        ("h:99999", "http://h:11434"),
        ("h:port", "http://h:11434"),
        ("https://h:-1", "https://h:443"),
        ("h:", "http://h:11434"),
    ],
)
def test_ollama_is_found_by_its_own_rules(given: str, address: str) -> None:
    assert ollama_address(given) == address
    assert load_settings(ollama_host=given).ollama_host == address


def test_a_bad_ollama_port_is_told() -> None:
    assert load_settings(ollama_host="h:99999").warnings == (
        "OLLAMA_HOST has a bad port, '99999': using 11434.",
    )


# What is wrong


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("HOPTRAIL_MAX_STEPS", "many", "integer"),
        ("HOPTRAIL_MAX_STEPS", "0", "greater than or equal to 1"),
        ("HOPTRAIL_MAX_LLM_CALLS", "-3", "greater"),
        ("HOPTRAIL_MAX_TOKENS", "1.5", "integer"),
        ("HOPTRAIL_DEADLINE", "nan", "finite"),
        ("HOPTRAIL_IDLE_TIMEOUT", "0", "greater than 0"),
        ("HOPTRAIL_REVISIONS", "-1", "greater"),
        ("HOPTRAIL_TEMPERATURE", "2.1", "less than"),
        ("HOPTRAIL_BACKENDS", "ollama,openai", "'huggingface', 'ollama'"),
        ("HOPTRAIL_BACKENDS", "ollama,ollama", "twice"),
        ("HOPTRAIL_EMBEDDERS", ",", "'hash'"),
        ("HUGGINGFACE_BASE_URL", "router.huggingface.co", "http:// or https://"),
        ("HUGGINGFACE_BASE_URL", "https://h:99999", "ort"),
        ("HUGGINGFACE_EMBEDDING_URL", "ftp://h", "http:// or https://"),
        ("HUGGINGFACE_EMBEDDING_URL", "https://h/?key=1", "ends with its path"),
        ("OLLAMA_HOST", "ftp://h", "http(s)://"),
        ("OLLAMA_HOST", "a b", "not a host name"),
        ("OLLAMA_HOST", "1:2:3:4", "not a host name"),
    ],
)
def test_a_bad_value_is_named_with_its_source_and_the_fix(
    name: str, value: str, problem: str, environment: Callable[..., None]
) -> None:
    environment(**{name: value})
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"{name} (environment): {value!r} cannot be used: ")
    assert problem in message
    assert "or remove it." in message


def test_every_bad_value_is_told_at_once() -> None:
    dotenv("HOPTRAIL_TOP_K=few")
    toml('max_steps = "many"')
    with pytest.raises(SettingsError) as caught:
        load_settings(deadline=-1)
    message = str(caught.value)
    assert len(message.splitlines()) == 3
    for start in ("HOPTRAIL_TOP_K (.env)", "max_steps (hoptrail.toml)", "deadline (flag)"):
        assert start in message
    assert "max_steps=8" in message


@pytest.mark.parametrize("name", ["HUGGINGFACE_BASE_URL", "OLLAMA_HOST"])
@pytest.mark.parametrize("form", ["http://u:{}@h", "http://u:{}/x@h:1", "u:{}@h"])
def test_a_password_in_an_address_is_refused_unshown(
    name: str, form: str, environment: Callable[..., None]
) -> None:
    environment(**{name: form.format(SECRET)})
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    assert "user name or password" in str(caught.value)


@pytest.mark.parametrize("content", [b"max_steps = ", b"\xff\xfe"])
def test_a_broken_toml_file_is_named(content: bytes) -> None:
    Path("hoptrail.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"hoptrail\.toml cannot be read"):
        load_settings()


def test_a_broken_dotenv_file_is_named() -> None:
    Path(".env").write_bytes(b"HF_TOKEN=\xff\xfe")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        load_settings()


def test_a_typo_is_told_with_the_nearest_name(environment: Callable[..., None]) -> None:
    environment(HOPTRAIL_MAX_STEP="3", HOPTRAIL_QQQQQQQQQQ="1")
    dotenv("HOPTRAIL_BACKEND=ollama", "OTHER=1")
    toml("max_step = 3", "zzzzzzzz = 1")
    expected = {
        "HOPTRAIL_MAX_STEP (environment) is not a setting: did you mean HOPTRAIL_MAX_STEPS?",
        "HOPTRAIL_QQQQQQQQQQ (environment) is not a setting.",
        "HOPTRAIL_BACKEND (.env) is not a setting: did you mean HOPTRAIL_BACKENDS?",
        "max_step (hoptrail.toml) is not a setting: did you mean max_steps?",
        "zzzzzzzz (hoptrail.toml) is not a setting.",
    }
    assert set(load_settings().warnings) == expected


def test_an_unknown_flag_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="did you mean max_steps"):
        load_settings(max_step=3)


# Secrets


@pytest.mark.parametrize("source", ["flag", "environment", ".env", "toml", "login"])
def test_a_secret_is_never_shown(source: str, environment: Callable[..., None]) -> None:
    flags: dict[str, object] = {}
    if source == "flag":
        flags = {"token": SECRET}
    elif source == "environment":
        environment(HF_TOKEN=SECRET)
    elif source == ".env":
        dotenv(f"HF_TOKEN={SECRET}")
    elif source == "toml":
        toml(f'token = "{SECRET}"')
    else:
        saved_login()
    settings = load_settings(**flags)
    assert token(settings) == SECRET
    shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    shown += [str(origins(settings)), json.dumps(settings.model_dump(mode="json"))]
    for text in shown:
        assert "aVerySecret" not in text


def test_a_secret_of_another_kind_shows_nothing_of_itself() -> None:
    settings = load_settings(token="sk-123")
    assert origin(settings, "HF_TOKEN") == ("…", "flag")


def test_a_bad_secret_is_not_shown_in_the_error() -> None:
    toml(f'token = ["{SECRET}"]')
    with pytest.raises(SettingsError, match=r"token \(hoptrail\.toml\): its value") as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ValidationError) as by_hand:
        Settings.model_validate({"token": [SECRET]})
    assert SECRET not in str(by_hand.value)


# .env.example


def test_the_example_lists_exactly_the_variables_with_their_meaning_and_default() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    listed = {
        match[1]: (comment.removeprefix("# "), match[2])
        for comment, line in pairwise(lines)
        if (match := re.fullmatch(r"#([A-Z_]+)=(.*)", line))
    }
    defaults = {each.name: each.value for each in origins(Settings())}
    assert sorted(listed) == sorted(name for names in variables().values() for name in names)
    for setting, (name, *others) in variables().items():
        description, value = listed[name]
        assert description.startswith(Settings.model_fields[setting].description or "missing")
        assert value == ("" if setting == "home" else defaults[name])
        assert all(name in listed[other][0] for other in others)


def test_the_example_changes_nothing_when_it_is_copied_and_uncommented() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    dotenv(*(line.removeprefix("#") for line in text.splitlines() if re.match("#[A-Z]", line)))
    assert load_settings().model_dump() == Settings().model_dump()


def test_documents_are_several_joined_as_in_path_or_a_list(
    environment: Callable[..., None],
) -> None:
    environment(HOPTRAIL_DOCS=f"notes{os.pathsep}more")
    assert load_settings().docs == (Path("notes"), Path("more"))
    assert load_settings(docs="one").docs == (Path("one"),)
    toml('docs = ["a", "b"]')
    environment(HOPTRAIL_DOCS="")
    assert load_settings().docs == (Path("a"), Path("b"))


def test_every_token_is_masked_also_those_among_the_headers_of_spans() -> None:
    settings = load_settings(
        token=SECRET,
        api_token="an-0wn-token",
        otlp_headers="x-api-key=k3y-abcdef,Authorization=Bearer%20zzzz1111,accept=text/html,a,key=",
    )
    told = f"{SECRET} an-0wn-token k3y-abcdef zzzz1111 text/html"
    assert settings.secrets.hide(told) == "hf_… … … … text/html"
