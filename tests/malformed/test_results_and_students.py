"""Results, finished trials and saved students as nobody meant them."""

import copy
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from agents.effects import Experiment
from agents.report import render_report
from agents.report.differences import render_differences
from agents.report.outcome import parse_results
from agents.report.published import parse_published
from agents.report.regimes import parse_regime
from agents.trial import finished_trial, load_trained_student
from agents.tuning.study import _drop_torn_line
from graphs.files import read_manifest, write_manifest
from graphs.text_files import read_json
from students.registry import STUDENTS, make_student
from students.saved import About, load_student, save_student
from teachers.cached_store import read_store
from tests.agents.conftest import SMALL
from tests.malformed.conftest import TRIAL, Refused

READERS: dict[str, Callable[[Any], Any]] = {
    "report.py": render_report,
    "results.py": parse_results,
    "regimes.py": partial(parse_regime, name="a"),
    "differences.py": lambda document: render_differences([document], None),
}


@pytest.fixture
def document(finished: Path) -> Any:
    return json.loads((finished / "results.json").read_text("utf-8"))


@pytest.mark.parametrize("reader", READERS)
def test_a_whole_one_is_read(reader: str, finished: Path) -> None:
    assert read_json(finished / "results.json", READERS[reader])


TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "line 1: expected JSON"),
    "torn": (b'{"format": 1,\n "runs": [', "line 2: expected JSON"),
    "not text": (b"\xff\xfe{", "line 1: expected UTF-8"),
    "lists in lists": (b"[" * 10**5, "expected JSON"),
    "a number of no end": (b'{"format": ' + b"9" * 10**5 + b"}", "expected JSON"),
    "a list": (b"[]", "not"),
    "null": (b"null", "not"),
    "a number": (b"1e999", "not"),
    "an empty object": (b"{}", "not"),
    "another format": (b'{"format": 7}', "not"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_malformed_json_is_one_sentence(kind: str, tmp_path: Path, refused: Refused) -> None:
    content, says = TEXTS[kind]
    path = tmp_path / "results.json"
    path.write_bytes(content)
    for parse in (*READERS.values(), Experiment.of, parse_published):
        said = refused(read_json, path, parse)
        assert str(path) in said
        assert says in said


def put(document: Any, place: str, value: object) -> Any:
    """The document with another value at `a.b.0.c`."""
    changed = copy.deepcopy(document)
    at = changed
    *above, last = (int(key) if key.isdigit() else key for key in place.split("."))
    for key in above:
        at = at[key]
    at[last] = value
    return changed


DOCUMENTS: dict[str, tuple[str, str, object]] = {
    "a graph of a trillion squared": ("results.py", "graph.entities", 10**24),
    "a negative graph": ("results.py", "graph.entities", -1),
    "a rank of no end": ("results.py", "config.environment", {"rank": 10**30}),
    "MRR above one": ("results.py", "runs.0.test.mrr", 1.5),
    "MRR is NaN": ("results.py", "runs.0.test.mrr", float("nan")),
    "runs are no list": ("report.py", "runs", 5),
    "a run is null": ("regimes.py", "runs.0", None),
    "metrics are a list": ("differences.py", "runs.0.test", [1]),
    "seconds are text": ("results.py", "runs.0.seconds", "long"),
    "no teachers": ("report.py", "teachers", None),
    "a verdict of lists": ("report.py", "verdict", []),
    "no configuration": ("regimes.py", "config", []),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_malformed_results_are_one_sentence(
    kind: str, document: Any, tmp_path: Path, refused: Refused
) -> None:
    reader, place, value = DOCUMENTS[kind]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(put(document, place, value)))
    assert str(path) in refused(read_json, path, READERS[reader])


def test_a_trillion_entities_are_counted_without_memory(document: Any) -> None:
    assert parse_results(put(document, "graph.entities", 10**12)).parameters == 16 * (10**12 + 8)


# --- finished trials -----------------------------------------------------------------------------

RESULTS: dict[str, tuple[str | None, object]] = {
    "a list of its keys": (None, ["format", "key", "config", "result"]),
    "text": (None, "format"),
    "another format": ("format", 2),
    "no configuration": ("config", None),
    "a list for a configuration": ("config", [1]),
    "an unknown key": ("config.agnet", "ppo"),
    "a batch in words": ("config.batch", "many"),
    "a graph in a list": ("config.dataset", ["emoji"]),
    "a graph that is not there": ("config.dataset", "../../nowhere"),
    "a graph of no end": ("config.dataset", "planted:entities=1000000000000"),
    "another graph": ("config.dataset", f"{SMALL},seed=1"),
    "a result that is none": ("result", 3),
    "metrics that are none": ("result.test", {"mrr": "good"}),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_malformed_trial_is_one_sentence(
    kind: str, finished: Path, tmp_path: Path, refused: Refused
) -> None:
    place, value = RESULTS[kind]
    for name in ("result.json", "student.safetensors"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    path = tmp_path / "result.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(put(content, place, value) if place else value))
    said = refused(load_trained_student, tmp_path)
    assert str(tmp_path) in said or "graph" in said or "entities" in said
    if place is None or not place.startswith("config"):
        assert str(path) in refused(finished_trial, tmp_path, TRIAL)


# --- saved students ------------------------------------------------------------------------------

ABOUT = About("complex", 4, 5, 2, "a" * 16, "a" * 16)


def weights() -> dict[str, torch.Tensor]:
    return dict(make_student("complex", 5, 2, 4, torch.Generator()).state_dict())


def student(about: Mapping[str, str] | None = None, **changes: torch.Tensor | None) -> bytes:
    kept = {name: value for name, value in (weights() | changes).items() if value is not None}
    return save(kept, metadata=ABOUT.header() | dict(about or {}))


SAVED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "does not hold a student"),
    "torn": (student()[:-8], "does not hold a student"),
    "a pickle": (b"\x80\x02cos\nsystem\n(S'touch exploded'\ntR.", "does not hold a student"),
    "header of no end": (b"\xff" * 8 + student()[8:], "does not hold a student"),
    "says nothing": (save(weights()), "does not say what student it holds"),
    "a trillion entities": (student({"num_entities": str(10**12)}), "does not hold a complex"),
    "entities of no end": (student({"num_entities": "9" * 30}), "does not hold a complex"),
    "entities of too many digits": (student({"num_entities": "9" * 5000}), "does not hold"),
    "a trillion ranks": (student({"rank": str(10**12)}), "does not hold a complex"),
    "no rank": (student({"rank": "0"}), "rank must be at least 1"),
    "a negative rank": (student({"rank": "-4"}), "rank must be at least 1"),
    "rank in words": (student({"rank": "four"}), "does not hold a student"),
    "another scorer": (student({"student": "os.system"}), "none is registered"),
    "a scorer of a long name": (student({"student": "x" * 10**6}), "none is registered"),
    "an odd rank": (student({"student": "roth", "rank": "5"}), "does not hold a roth student"),
    "a table short": (student(entity_table=torch.zeros(4, 8)), "does not hold a complex"),
    "no table": (student(entity_table=None), "does not hold a complex"),
    "a table too many": (student(another=torch.zeros(1)), "does not hold a complex"),
    "NaN": (student(entity_table=torch.full((5, 8), torch.nan)), "finite numbers"),
    "infinity": (student(relation_table=torch.full((4, 8), torch.inf)), "finite numbers"),
}


@pytest.mark.parametrize("kind", SAVED)
def test_a_malformed_student_is_one_sentence(kind: str, tmp_path: Path, refused: Refused) -> None:
    content, says = SAVED[kind]
    path = tmp_path / "student.safetensors"
    path.write_bytes(content)
    said = refused(load_student, path)
    assert str(path) in said
    assert says in said


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    scorer = make_student(name, 5, 2, 4, torch.Generator().manual_seed(0))
    path = tmp_path / "student.safetensors"
    save_student(path, scorer.state_dict(), About(name, 4, 5, 2, "a", "a"))
    again, _ = load_student(path)
    entities, relations = torch.arange(5), torch.tensor([0, 1, 2, 3, 0])
    with torch.no_grad():
        assert torch.equal(again(entities, relations), scorer(entities, relations))


# --- manifests and stores ------------------------------------------------------------------------


def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "secret").write_text("a")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data").symlink_to("../secret")
    write_manifest(folder, "a")
    assert "leaves the folder" in refused(read_manifest, folder)


@pytest.mark.parametrize("extra", [{}, {"teachers": 3}, {"teachers": ["a"], "num_entities": "x"}])
def test_a_store_without_its_arrays_is_one_sentence(
    extra: dict[str, Any], tmp_path: Path, refused: Refused
) -> None:
    write_manifest(tmp_path, "a", extra)
    assert f"{tmp_path} holds no store" in refused(read_store, tmp_path, "a")


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"notes of somebody else", b"notes of somebody else"),
        (b'{"op_code":0}\n{"op_', b'{"op_code":0}\n'),
    ],
)
def test_only_the_torn_line_of_a_journal_is_dropped(
    content: bytes, left: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(content)
    _drop_torn_line(path)
    assert path.read_bytes() == left
