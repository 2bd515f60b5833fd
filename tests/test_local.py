"""The in-process model, without the libraries it needs."""

from importlib.util import find_spec

import pytest
from langchain_core.messages import HumanMessage

from hoptrail.backend import CallOptions
from hoptrail.errors import BackendRefused
from hoptrail.providers.local import LocalBackend

pytestmark = pytest.mark.anyio


async def test_without_a_model_it_is_not_configured() -> None:
    """And says what to set."""
    found = await LocalBackend().probe()
    assert (found.state, found.detail) == ("unconfigured", "no model set")
    assert "HOPTRAIL_LOCAL_MODEL" in found.fix


@pytest.mark.skipif(find_spec("transformers") is not None, reason="transformers is installed")
async def test_without_the_libraries_it_says_how_to_get_them() -> None:
    """A probe tells, a call refuses; neither is an ImportError."""
    backend = LocalBackend("some/model")
    found = await backend.probe()
    assert found.state == "unconfigured"
    assert 'pip install "hoptrail[local]"' in found.fix
    with pytest.raises(BackendRefused, match="pip install"):
        await backend.generate([HumanMessage("Q")], CallOptions())
