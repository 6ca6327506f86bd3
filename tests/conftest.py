"""Shared fixtures; no test touches the user's cache folder."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from graphs import MultimodalGraph, load_graph

# The same examples for everybody who wants to land something; new ones on every other run.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

SMALL = "planted:entities=160,relations=4,blocks=2,tails_per_head=3"


# They train for most of their time, and being traced would make it a third longer; what they run is
# run by quicker tests too, and `make test` still asks for nine lines of ten.
UNTRACED = ("test_backends", "test_continual", "test_learning", "test_trial", "test_zoo_learning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in UNTRACED:
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole session, its workers included: teachers are trained once."""
    workers = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if workers else base) / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSOM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def small_graph() -> MultimodalGraph:
    return load_graph(SMALL)


LoadSource = Callable[..., Any]


@pytest.fixture
def load_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadSource:
    """A module from its text, each time from another file, as after an edit."""

    def load(source: str, name: str = "somebodys") -> Any:
        path = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load
