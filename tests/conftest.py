"""Shared fixtures; no test touches the user's cache folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from graphs import MultimodalGraph, load_graph

# The same examples for everybody who wants to land something; new ones on every other run.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

SMALL = "planted:entities=160,relations=4,blocks=2,tails_per_head=3"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole session, so that teachers are trained once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSOM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def small_graph() -> MultimodalGraph:
    return load_graph(SMALL)
