"""The real commands on input as nobody meant it; what they call is tested beside."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents.conftest import SMALL
from tests.graphs.folders import OPENKE, write
from tests.malformed.test_configurations import LAUGHS
from tests.malformed.test_feature_files import Bomb, pt
from tests.malformed.test_results_and_students import student
from tests.programs import program


def exploding_graph(folder: Path) -> list[object]:
    write(folder / "toy", OPENKE)
    (folder / "toy" / "modalities").mkdir()
    pt({"a": Bomb()})(folder / "toy" / "modalities" / "image.pt")
    return ["prepare.py", "check", folder / "toy"]


def laughing_variants(folder: Path) -> list[object]:
    (folder / "a.yml").write_text(LAUGHS)
    variants = ("--variants", folder / "a.yml", "--agents", "all@a")
    return ["compare.py", "--dataset", SMALL, *variants, "--out", folder / "out"]


def deep_results(folder: Path) -> list[object]:
    (folder / "results.json").write_text("[" * 10**5)
    return ["report.py", folder]


def lying_student(folder: Path) -> list[object]:
    config = {"agent": "all", "dataset": SMALL}
    metrics = {name: {"mrr": 0.5} for name in ("valid", "test", "mean_mask")}
    document = {"format": 1, "key": "a", "config": config, "result": metrics}
    (folder / "result.json").write_text(json.dumps(document))
    (folder / "student.safetensors").write_bytes(student({"num_entities": str(10**12)}))
    return ["evaluate.py", folder]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (exploding_graph, "image.pt: expected tensors, lists and dicts only, which hold no code"),
        (laughing_variants, "a.yml, line "),
        (deep_results, "results.json: expected JSON"),
        (lying_student, "student.safetensors does not hold a complex student"),
    ],
)
def test_a_command_refuses(make: Callable[[Path], list[object]], says: str, tmp_path: Path) -> None:
    name, *arguments = map(str, make(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    done = program(name, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    # What argparse refuses has its usage above.
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
