"""Secrets are masked wherever they stand, and nothing else is."""

import json
import re
import time
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hoptrail.secrecy import STUB, Secrets, masked, masked_in
from tests.sample_trace import sample_trace

CORPUS = Path(__file__).parents[1] / "examples" / "corpus"
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nu1SU1L7VLPHCgc\n"
    "-----END RSA PRIVATE KEY-----"
)
KEYS = {
    "hf_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0": "hf_…",
    "sk-proj-aB3dE6gH9jK2mN5pQ8sT1vW4": "sk-proj-…",
    "sk-ant-api03-aB3dE6gH9jK2_mN5pQ8-sT1vW4AA": "sk-ant-…",
    "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dE3fG6": "ghp_…",
    "github_pat_11AB3dE6gH9jK2mN5pQ8_sT1vW4yZ7bC0": "github_pat_…",
    "AKIAIOSFODNN7EXAMPLE": "AKIA…",
    "xoxb-123456789012-aB3dE6gH9jK2": "xoxb-…",
    "glpat-aB3dE6gH9jK2mN5pQ8sT": "glpat-…",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv": "AIza…",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P": "eyJ…",
    "Bearer aB3dE6gH9jK2mN5pQ8": "Bearer …",
    "Authorization: Basic dXNlcjpwYXNzd29yZA==": "Authorization: Basic …",
    "postgres://anna:p@ss:w0rd@db.example/x": "postgres://anna:…@db.example/x",
    PEM: "-----BEGIN RSA PRIVATE KEY-----…-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEAu1SU\nand then": (
        "-----BEGIN PRIVATE KEY-----…\nand then"
    ),
}
INNOCENT = (
    "task-oriented-dialogue-systems-of-2024 and sk-learn-based-classification-of-things",
    "the bearer of misunderstandings; Basic authentication; bearer authentication-without-digits",
    "4708b658ae3494b0339cf5ee668dd12ec31f8a74 20261122-091500-4f2a9c",
    "123e4567-e89b-12d3-a456-426614174000 huggingface:openai/gpt-oss-20b",
    "http://127.0.0.1:8700/runs?question=a@b https://example.org/@anna mailto:anna@example.org",
    "local:all-MiniLM-L6-v2:0123456789ab hf_hub_download hf_transfer",
    "xoxo AKIA AIza eyJ sk- hf_ -----BEGIN CERTIFICATE-----",
)
BETWEEN = st.text(st.characters(codec="utf-8", categories=("Zs", "Po", "Ps", "Pe")), max_size=5)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("around", ["{}", "key={}\n", '"{}"', "x%3D{}", "({}),", "{}\t{}"])
def test_what_looks_like_a_key_leaves_a_stub(key: str, around: str) -> None:
    assert masked(around.replace("{}", key)) == around.replace("{}", KEYS[key])


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_none_is_left_alone(text: str) -> None:
    assert masked(text) == text


def test_documents_and_traces_are_left_alone() -> None:
    documents = list(CORPUS.rglob("*.md"))
    assert documents
    for document in documents:
        text = document.read_text(encoding="utf-8")
        assert masked(text) == text, document
    for trace in (
        sample_trace().model_dump_json(),
        (Path(__file__).parent / "data" / "trace-1.json").read_text(encoding="utf-8"),
    ):
        assert masked_in(trace) == trace
        assert masked(trace) == trace


@given(st.text(), st.sampled_from(sorted(KEYS)), BETWEEN, st.text())
def test_masking_again_changes_nothing(before: str, key: str, gap: str, after: str) -> None:
    once = masked(f"{before} {key}{gap} {after}")
    assert masked(once) == once
    assert key not in once


@given(st.text())
@example("hf_" * 30)
def test_a_text_without_a_hint_stays_as_it_is(text: str) -> None:
    if not any(hint in text.lower() for hint in ("_", "-", ":", "eyj", "akia", "asia", "aiza")):
        plain = text.replace("earer", "").replace("uthorization", "")
        assert masked(plain) == plain


@pytest.mark.parametrize("known", ["my-own-T0ken/+&=\"'\\é", "0123456789", "correct horse battery"])
def test_a_known_value_is_masked_in_every_form_it_travels_in(known: str) -> None:
    secrets = Secrets([known, ""])
    data = f"user:{known}".encode()
    for form in (
        known,
        quote(known, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote(known, safe="")),
        json.dumps(known),
        json.dumps(known, ensure_ascii=False),
        json.dumps(json.dumps(known)),
        b64encode(data).decode(),
        b64encode(b"x" + data).decode(),
        b64encode(b"xx" + data).decode(),
        urlsafe_b64encode(data).decode(),
    ):
        hidden = secrets.hide(f"before {form} after")
        assert hidden.startswith("before ")
        assert hidden.endswith(" after")
        assert STUB in hidden, form
        assert known not in hidden
    assert secrets.hide("nothing of the kind") == "nothing of the kind"


def test_a_known_token_keeps_its_kind() -> None:
    assert Secrets(["hf_short0123"]).hide("hf_short0123") == "hf_…"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
        max_leaves=20,
    )
)
def test_a_document_keeps_its_shape(value: object) -> None:
    known = '0123"456\\789'
    held = {"status": known, known: [value, {"deep": f"x{known}y"}], "n": 123456789}
    for dumped in (json.dumps(held), json.dumps(held, ensure_ascii=False)):
        hidden = json.loads(Secrets([known, "123456789"]).hide_in(dumped))
        assert hidden["status"] == STUB
        assert hidden["n"] == 123456789, "a number is no text"
        assert hidden[STUB][1] == {"deep": f"x{STUB}y"}
        assert set(hidden) == {"status", STUB, "n"}


def test_a_key_in_a_document_is_masked_without_breaking_it() -> None:
    document = json.dumps(
        {"output": f"\n{PEM}", "-----END ": [*KEYS], "Bearer aB3dE6gH9jK2mN5p": 1}
    )
    held = json.loads(masked_in(document))
    assert held["output"] == f"\n{KEYS[PEM]}"
    assert held["-----END "] == [*KEYS.values()]
    assert held["Bearer …"] == 1


def test_a_word_is_no_secret_that_could_be_kept() -> None:
    secrets = Secrets(["answered", "multi-hop", "short", "question"])
    document = sample_trace().model_dump_json()
    assert secrets.hide_in(document) == document


WORST = (
    "a", "-", "sk-", "eyJ", "eyJaaaaaaaa.", "://", "://a:", "a:", "bearer ", "Bearer+", "hf_",
    "hf_aaaaaaaaaaaaaaaaaaa_", "AKIA", "%3Dsk-", "authorization: ", "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY----- aaaaaaaaaaaaaaaaa", " \n", "github_pat_", "xoxb-",
)  # fmt: skip


@pytest.mark.parametrize("unit", WORST)
def test_a_megabyte_of_anything_takes_no_time(unit: str) -> None:
    for begin in ("", "-----BEGIN PRIVATE KEY-----", "eyJ", "://a:", "bearer "):
        text = begin + unit * (1_000_000 // len(unit))
        started = time.perf_counter()
        masked(text)
        # Linear, it is some ten milliseconds; squared, minutes.
        assert time.perf_counter() - started < 10
