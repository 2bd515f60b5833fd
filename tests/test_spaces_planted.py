"""Index files that somebody made, seal and all: what they claim is believed only where it holds."""

from __future__ import annotations

import asyncio
import io
import struct
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoptrail.embeddings import HashEmbedder
from hoptrail.embeddings.hashing import HEADER, MAGIC
from hoptrail.errors import IndexDamaged, RetrievalError
from hoptrail.retrieval.arrays import pack, unpack
from hoptrail.retrieval.graph import PassageGraph
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.seal import LENGTH, seal
from hoptrail.retrieval.store import FILE_NAME, connect
from hoptrail.retrieval.words import WordIndex
from tests.shelf import chain, take_in, write

pytestmark = [pytest.mark.promise("damage-is-found"), pytest.mark.timeout(300)]

DOCUMENTS = {
    f"river-{number}.md": f"# River {number}\n\nThe River {number} passes mile {number * 7}."
    for number in range(5)
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("planted")
    take_in(write(root / "docs", DOCUMENTS), root / "index")
    return (root / "index" / FILE_NAME).read_bytes()[:-LENGTH]


def planted(place: Path, content: bytes) -> None:
    place.mkdir(exist_ok=True)
    (place / FILE_NAME).write_bytes(content)
    seal(place / FILE_NAME)


def use(place: Path) -> None:
    """Open and search; only our own errors may come out."""
    try:
        with closing(Index.open(place)) as index:
            asyncio.run(index.search("Which river passes mile 7?", k=9, embedders=chain()))
            index.passages(["docs/river-1.md#1"])
            index.stats()
    except RetrievalError:
        return


# Every example writes its own file; the same ones each time.
OFTEN = settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])

edits = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8)


@settings(parent=OFTEN, max_examples=300)
@given(edits)
def test_any_bytes_under_a_right_seal_give_our_errors_or_an_answer(
    intact: bytes, tmp_path: Path, edits: list[tuple[int, int]]
) -> None:
    content = bytearray(intact)
    for place, byte in edits:
        content[place % len(content)] = byte
    planted(tmp_path / "index", bytes(content))
    use(tmp_path / "index")


def with_blob(place: Path, name: str, content: bytes) -> None:
    """Put another blob into an index, and seal it anew."""
    file = place / FILE_NAME
    with closing(connect(file, "rw")) as database:
        database.execute("UPDATE blobs SET content = ? WHERE name = ?", (content, name))
    seal(file)


@settings(parent=OFTEN, max_examples=60)
@given(st.sampled_from(["words", "graph", "canaries", "embedder"]), edits)
def test_any_part_under_a_right_seal_gives_our_errors_or_an_answer(
    intact: bytes, tmp_path: Path, name: str, edits: list[tuple[int, int]]
) -> None:
    planted(tmp_path / "index", intact)
    with closing(connect(tmp_path / "index" / FILE_NAME, "ro&immutable=1")) as database:
        row = database.execute("SELECT content FROM blobs WHERE name = ?", (name,)).fetchone()
    content = bytearray(row[0])
    for place, byte in edits:
        content[place % len(content)] = byte
    with_blob(tmp_path / "index", name, bytes(content))
    use(tmp_path / "index")


def claiming(shape: str, kind: str = "<f4") -> bytes:
    """Give arrays whose header claims more than there is."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as archive:
        archive.writestr("weights.npy", member + b"\0" * 16)
    return blob.getvalue()


@pytest.mark.parametrize(
    "blob",
    [
        claiming("(1000000000000,)"),
        claiming("(1000000, 1000000, 1000000)"),
        claiming("(-4,)"),
        claiming("(4,)", "|O"),
        claiming("(3,)"),
        b"",
        b"PK\x03\x04",
        pack(weights=np.zeros(4))[:-30],
    ],
)
def test_no_array_is_made_as_large_as_it_claims(blob: bytes) -> None:
    """NumPy's reader would make room for four terabytes before it reads a byte."""
    with pytest.raises(ValueError, match=r".+"):
        unpack(blob)


def test_no_compressed_part_is_unpacked() -> None:
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.npy", bytes(10_000_000))
    with pytest.raises(ValueError, match="not as it was packed"):
        unpack(blob.getvalue())


@pytest.mark.parametrize(
    "dumped",
    [
        HEADER.pack(MAGIC, 2**32 - 1, 0),
        HEADER.pack(MAGIC, 64, 1)
        + struct.pack("<Q", 8)
        + bytes(8)
        + zlib.compress(bytes(100_000_000)),
        HEADER.pack(MAGIC, 64, 1) + struct.pack("<Q", 2**60) + zlib.compress(b""),
    ],
)
def test_no_table_is_made_as_large_as_it_claims(dumped: bytes) -> None:
    with pytest.raises(IndexDamaged):
        HashEmbedder().restored(dumped)


@pytest.mark.parametrize(
    ("name", "number"),
    [("passages", 5), ("passages", -1), ("offsets", 99), ("offsets", -1), ("count", 10**12)],
)
def test_words_of_other_passages_are_refused(name: str, number: int) -> None:
    arrays = unpack(WordIndex.build(["one river", "two rivers"]).dump())
    arrays[name] = np.full_like(arrays[name], number)
    with pytest.raises(ValueError, match="the words"):
        WordIndex.restored(pack(**arrays), 2)


@pytest.mark.parametrize(
    ("name", "number"),
    [("passages", 5), ("passages", -1), ("mentioned", 99), ("mentioned", -1), ("size", 10**12)],
)
def test_a_graph_of_other_passages_is_refused(name: str, number: int) -> None:
    built = PassageGraph.build([{"prague": 1, "bonn": 2}, {"prague": 1, "bonn": 1}], ["", ""])
    arrays = unpack(built.dump())
    arrays[name] = np.full_like(arrays[name], number)
    with pytest.raises(ValueError, match="the graph"):
        PassageGraph.restored(pack(**arrays), 2)
