"""A disk that is really full, and a process that may open no more files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.promise("storage-faults-are-told"), pytest.mark.timeout(180)]

FORKED = """
import asyncio, json, os, resource, sqlite3, sys, traceback
from contextlib import closing
from pathlib import Path

from hoptrail import Hoptrail, load_settings
from hoptrail.errors import StorageFailed
from tests import two_hops

base, resource_name = Path(sys.argv[1]), sys.argv[2]
docs = two_hops.write_documents(base / "docs")


def asked(home):
    model = two_hops.model()
    settings = load_settings(home=home, embedders="hash")
    trail = Hoptrail(docs=docs, index=base / "index", model=model, settings=settings)
    try:
        answer = asyncio.run(trail.aask(two_hops.QUESTION, run_id="r1"))
    except StorageFailed as error:
        return {"told": str(error), "calls": len(model.calls)}
    return {
        "answer": answer.short,
        "warnings": list(answer.warnings),
        "calls": len(model.calls),
    }


def forked(work, *given):
    there, here = os.pipe()
    if (child := os.fork()) == 0:
        os.close(there)
        try:
            with open(here, "w") as out:
                json.dump(work(*given), out)
        except BaseException as error:
            traceback.print_exception(error)
            os._exit(1)
        os._exit(0)
    os.close(here)
    with open(there) as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text and status == 0 else {"raised": status}


def limited(home, limit):
    if resource_name == "pages":
        connect = sqlite3.connect

        def few_pages(path, *given, **named):
            connection = connect(path, *given, **named)
            if str(path).endswith("journal.db"):
                connection.execute(f"PRAGMA max_page_count = {limit}")
            return connection

        sqlite3.connect = few_pages
        return asked(home)
    which = getattr(resource, resource_name)
    _, hard = resource.getrlimit(which)
    if resource_name == "RLIMIT_NOFILE":
        limit += len(os.listdir("/proc/self/fd"))
    resource.setrlimit(which, (limit, hard))
    return asked(home)


def intact(home):
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


asked(base / "first")  # makes the index, and imports what is imported at first use
cases = []
for number, limit in enumerate(map(int, sys.argv[3:])):
    home = base / f"home-{number}"
    first = forked(limited, home, limit)
    left = [path.name for path in home.rglob("*.partial")] if home.exists() else []
    again = forked(asked, home)
    cases.append({"limit": limit, "first": first, "again": again, "left": left,
                  "intact": intact(home)})
print(json.dumps(cases))
"""


def cases(folder: Path, resource: str, limits: list[int]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(folder), resource, *map(str, limits)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("resource", "limits"),
    [
        ("RLIMIT_FSIZE", [0, 100, 8192, 33_000, 60_000, 90_000, 1_000_000]),
        ("RLIMIT_NOFILE", [5, 6, 7, 8, 10, 16]),
        ("pages", [1, 4, 7, 9, 11, 20]),
    ],
)
def test_where_there_is_no_room_it_is_said_and_the_run_is_resumed(
    resource: str, limits: list[int], tmp_path: Path
) -> None:
    found = cases(tmp_path, resource, limits)
    told = answered = 0
    for case in found:
        first, again = case["first"], case["again"]
        assert "raised" not in first, case
        told += "told" in first
        answered += first.get("answer") == "Prague"
        assert "told" in first or first["answer"] == "Prague", case
        if "told" in first:
            assert str(tmp_path) in first["told"]
        assert again["answer"] == "Prague", case
        assert first["calls"] + again["calls"] <= 4 + 2, case
        assert case["intact"] == "ok"
        assert case["left"] == []
    assert told >= 2, "nothing was too little"
    assert answered >= 1, "nothing was enough"
