"""What the tests of deaths share: one process that has everything imported, a file's worth."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.lives import Mortals


@pytest.fixture(scope="module")
def mortals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortals]:
    """Give what lives are lived by."""
    with Mortals(tmp_path_factory.mktemp("mortals")) as mortals:
        yield mortals
