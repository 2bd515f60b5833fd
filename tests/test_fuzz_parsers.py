"""Whatever a parser is given, it gives what it promised or its declared error."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import TARGETS, target

pytestmark = pytest.mark.promise("parsers-survive")

EXAMPLES = {
    "plan": 300,
    "reply": 600,
    "citations": 300,
    "trace": 300,
    "words": 300,
    "documents": 250,
}
FEW = 120
"""For those that need a folder, or a model's client."""


@pytest.mark.parametrize("name", TARGETS)
def test_each_parser_keeps_its_word_whatever_it_reads(name: str) -> None:
    fuzzed = target(name)
    pieces = st.one_of(
        st.sampled_from([word.encode() for word in fuzzed.words]),
        st.sampled_from([word.encode() for word in fuzzed.words]),
        st.binary(max_size=6),
        st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )
    made_up = st.tuples(st.binary(max_size=1), st.lists(pieces, max_size=25).map(b"".join))

    @settings(max_examples=EXAMPLES.get(name, FEW), suppress_health_check=list(HealthCheck))
    @given(made_up.map(b"".join) | st.sampled_from(fuzzed.seeds).flatmap(_damaged))
    def check(data: bytes) -> None:
        fuzzed.check(data)

    check()


def _damaged(seed: bytes) -> st.SearchStrategy[bytes]:
    """Give a good input with one part of it cut out or replaced."""
    places = st.integers(0, len(seed))
    return st.builds(
        lambda start, length, new: seed[:start] + new + seed[start + length :],
        places,
        st.integers(0, 20),
        st.binary(max_size=4),
    )
