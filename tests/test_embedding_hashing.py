"""The hash embedder against values worked out by hand, and what holds for any text."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.embeddings import HashEmbedder
from hoptrail.embeddings.hashing import features
from hoptrail.errors import IndexDamaged
from hoptrail.space import Vectors

pytestmark = pytest.mark.anyio


async def test_the_hash_of_a_word_by_hand() -> None:
    """`b2sum -l 64` of each feature, read little-endian: bucket and sign can be read off."""
    row = (await HashEmbedder().embed(["aa AA"], "passage"))[0]
    by_hand = {
        1233: math.log1p(2),  # w:aa   0xdadefb77225304d1, bit 60 set
        926: math.log1p(0.5),  # c:<aa  0x1dce6c66209c439e, bit 60 set
        3755: -math.log1p(0.5),  # c:aa>  0xa6c2d2b7012a1eab, bit 60 clear
        3153: math.log1p(0.5),  # c:<aa> 0x50545b025e1f8c51, bit 60 set
    }
    length = math.sqrt(sum(value**2 for value in by_hand.values()))
    assert set(np.flatnonzero(row)) == set(by_hand)
    for bucket, value in by_hand.items():
        assert row[bucket] == pytest.approx(value / length, rel=1e-6)


async def test_idf_by_hand_and_for_what_the_corpus_never_said() -> None:
    fitted = HashEmbedder().fitted(["aa", "aa", "bb"])
    row = (await fitted.embed(["aa xx"], "query"))[0]
    seen, unseen = math.log(4 / 2.5), math.log(4)
    xx = (await HashEmbedder().embed(["xx"], "query"))[0]
    word = int(np.abs(xx).argmax())
    assert abs(row[1233] / row[word]) == pytest.approx(seen / unseen, rel=1e-5)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=20))
def test_any_text_has_a_unit_vector_that_does_not_depend_on_its_neighbours(
    texts: list[str],
) -> None:
    embedder = HashEmbedder(384)

    async def both() -> tuple[Vectors, Vectors]:
        alone = [await embedder.embed([text], "query") for text in texts]
        return await embedder.embed(texts, "passage"), np.vstack(alone)

    together, alone = asyncio.run(both())
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(together, alone)


def test_words_are_unicode_words_and_case_is_no_feature() -> None:
    for one, other in (("Øresund ÉMILE", "øresund émile"), ("Прага", "прага"), ("a-b", "A b!")):
        np.testing.assert_array_equal(features(one)[0], features(other)[0])
    assert len(np.intersect1d(features("北京")[0], features("東京")[0])) == 0


async def test_a_fitted_table_survives_its_dump_and_names_its_space() -> None:
    corpus = [f"river {number} flows through city {number % 7}" for number in range(1500)]
    fitted = HashEmbedder(512).fitted(corpus)
    restored = HashEmbedder().restored(fitted.dump())
    assert await restored.space() == await fitted.space()
    np.testing.assert_array_equal(
        await fitted.embed(corpus[:40], "passage"), await restored.embed(corpus[:40], "passage")
    )
    ids = {(await other.space()).id for other in (fitted, HashEmbedder(512), HashEmbedder(384))}
    ids.add((await HashEmbedder(512).fitted(corpus[1:]).space()).id)
    assert len(ids) == 4
    stateless = HashEmbedder(384)
    assert await HashEmbedder().restored(stateless.dump()).space() == await stateless.space()


@pytest.mark.parametrize("change", [lambda d: d[:-3], lambda d: b"x" + d, lambda d: b"", None])
def test_a_damaged_table_is_not_restored(change: Callable[[bytes], bytes] | None) -> None:
    dump = HashEmbedder(64).fitted(["one two", "three"]).dump()
    broken = change(dump) if change else dump[:24] + dump[32:40] + dump[24:32] + dump[40:]
    with pytest.raises(IndexDamaged):
        HashEmbedder().restored(broken)
