"""The house keeps its shape: arrows one way, light imports, no global randomness."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agents.registry import AGENTS

ROOT = Path(__file__).parents[1]
OURS = ("graphs", "students", "teachers", "dsom_env", "agents", "scripts", "tests")
# Each package may import those before it.
ORDER = OURS[:5]


def imports_of(path: Path) -> set[str]:
    """Top-level names of our packages that a file imports, type-checking imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found & set(OURS)


@pytest.mark.parametrize("package", ORDER)
def test_arrows_point_one_way(package: str) -> None:
    allowed = {*ORDER[: ORDER.index(package) + 1]}
    for path in (ROOT / package).rglob("*.py"):
        assert imports_of(path) <= allowed, path


def test_scripts_import_packages_only() -> None:
    for path in (ROOT / "scripts").glob("*.py"):
        assert imports_of(path) <= set(ORDER), path


@pytest.mark.parametrize(
    "program",
    [
        "import dsom_env",
        "import gymnasium, dsom_env; gymnasium.make('DSoM-v0')",
        "import gymnasium, dsom_env; gymnasium.make_vec('DSoM-v0', num_envs=8)",
    ],
)
def test_constructing_computes_nothing(program: str) -> None:
    check = "; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", program + check], check=True)


def test_no_global_randomness_and_no_unsafe_loading() -> None:
    forbidden = (
        r"torch\.manual_seed|np\.random\.seed|random\.seed\(|pickle\.load|allow_pickle=True"
        r"|weights_only=False|yaml\.load\(|[^_.a-z]eval\("
    )
    for package in (*ORDER, "scripts"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(forbidden, path.read_text("utf-8")), path


def test_every_yaml_has_an_agent_and_every_learner_a_yaml() -> None:
    names = {path.stem for path in (ROOT / "agents" / "hyperparameters").glob("*.yml")}
    assert names == {name for name, spec in AGENTS.items() if spec.learner}


def test_every_learner_has_a_search_space() -> None:
    """And the others share one."""
    names = {path.stem for path in (ROOT / "agents/hyperparameters/spaces").glob("*.yml")}
    assert names == {"environment", *(name for name, spec in AGENTS.items() if spec.learner)}
