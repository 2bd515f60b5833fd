"""The parts of the viewer's pages that need no browser, run by Node."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
SCRIPT = Path(__file__).with_name("pages.test.mjs")


@pytest.mark.skipif(NODE is None, reason="there is no Node.js on this machine")
@pytest.mark.timeout(120)
def test_the_parts_of_the_pages_hold() -> None:
    done = subprocess.run(
        [NODE or "node", "--test", str(SCRIPT)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"^# pass (\d+)", done.stdout, re.MULTILINE)[0]) > 20
    assert "\n# fail 0" in done.stdout
