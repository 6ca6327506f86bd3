"""What is kept for others has the same bits, however many threads a process has."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from graphs import MultimodalGraph, load_graph
from graphs.tasks import cut_tasks
from teachers import cached_store, lineage
from teachers.cached_store import open_store
from teachers.lineage import lineage_store
from teachers.pretraining import PretrainingConfig, load_teacher
from teachers.store import TeacherStore

# Large enough that two threads round otherwise than one, where they are let.
GRAPH = "planted:entities=1000,relations=4,blocks=2,tails_per_head=1"
CONFIG = PretrainingConfig(max_epochs=1, batch_size=2048, device="cpu")


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
        assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Another empty cache folder, and nothing open."""

    def make(name: str) -> Path:
        monkeypatch.setenv("DSOM_CACHE", str(tmp_path / name))
        monkeypatch.setattr(cached_store, "_OPEN", OrderedDict())
        return tmp_path / name

    return make


def bits(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.suffix in (".npy", ".safetensors"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_cache_has_the_same_bits(fresh_cache: Callable[[str], Path]) -> None:
    graph, found = load_graph(GRAPH), []
    for count in (1, 2):
        folder = fresh_cache(str(count))
        with threads_of_torch(count):
            open_store(graph, ("structure", "text"), CONFIG)
        found.append(bits(folder))
    assert len(found[0]) == 9  # two teachers, and the arrays of a store
    assert found[0] == found[1]


def test_a_teacher_that_is_only_read_has_the_same_bits() -> None:
    """It prepares the features of its graph, which are in no file."""
    graph, found = load_graph("emoji"), []
    for count in (1, 2):
        with threads_of_torch(count):
            teacher = load_teacher(graph, "text", PretrainingConfig(device="cpu"))
            found.append(dict(teacher.named_buffers()))
    assert "vectors.features" in found[0]
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def refuse(*_: object) -> None:
    raise RuntimeError(f"{torch.get_num_threads()} thread")


def test_threads_come_back_after_an_error(
    small_graph: MultimodalGraph, fresh_cache: Callable[[str], Path]
) -> None:
    fresh_cache("empty")
    with threads_of_torch(2):
        with pytest.raises(RuntimeError, match="1 thread"):
            load_teacher(small_graph, "text", CONFIG, report=refuse)
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError, match="1 thread"):
            open_store(small_graph, ("text",), CONFIG, progress=refuse)
        assert torch.get_num_threads() == 2


def test_teachers_of_a_stream(
    small_graph: MultimodalGraph,
    fresh_cache: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh_cache("empty")
    seen: list[int] = []
    build = lineage.build_store

    def counting(*arguments: object) -> TeacherStore:
        seen.append(torch.get_num_threads())
        return build(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lineage, "build_store", counting)
    stream = cut_tasks(small_graph, 2, "entity")
    graphs = [stream.own(task) for task in range(2)]
    with threads_of_torch(2):
        lineage_store(
            graphs, ("text",), CONFIG, report=lambda _: seen.append(torch.get_num_threads())
        )
    assert len(seen) >= 3
    assert np.unique(seen).tolist() == [1]
