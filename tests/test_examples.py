"""The examples run, and what they claim to show is there."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import dsom_env as _registration  # noqa: F401
from agents.registry import AGENTS
from dsom_env.rewards import REWARDS
from graphs import load_graph
from students.evaluation import filtered_ranks
from students.registry import STUDENTS
from teachers.registry import TEACHERS
from tests.conftest import SMALL

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
TINY: dict[str, Any] = {"dataset": SMALL, "epochs": 2, "batch": 64, "rank": 8, "teacher_rank": 8}

Load = Callable[[str], Any]


@pytest.fixture
def example() -> Iterator[Load]:
    """An example as a module; what it registers is gone afterwards."""
    registries: tuple[dict[str, Any], ...] = (AGENTS, REWARDS, STUDENTS, TEACHERS)
    before = [dict(registry) for registry in registries]

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
        return module

    yield load
    for registry, kept in zip(registries, before, strict=True):
        registry.clear()
        registry.update(kept)


def test_every_example_says_how_to_run_it_and_is_listed() -> None:
    page = (FOLDER / "README.md").read_text("utf-8")
    for path in sorted(FOLDER.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert text is not None
        assert f"python examples/{path.name}" in text
        assert f"[`{path.name}`]({path.name})" in page
    assert len((FOLDER / "cleanrl_ppo.py").read_text("utf-8").splitlines()) <= 200


def test_the_page_on_plugging_in_links_to_examples_that_are_there() -> None:
    page = (ROOT / "docs" / "plugging-in.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(\.\./examples/(\w+\.py)\)", page))
    assert linked == {path.name for path in FOLDER.glob("*.py")}


@pytest.mark.parametrize("name", ["cleanrl_ppo", "plain_loop"])
def test_the_right_masks_of_a_planted_graph_are_found(
    name: str, example: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of every rollout PPO makes sixteen steps, and the plain loop one.
    own = {"cleanrl_ppo": {"num_envs": 64, "epochs": 12}, "plain_loop": {"batch": 64, "epochs": 24}}
    budget: dict[str, Any] = {"dataset": SMALL, "teacher_rank": 8, **own[name]}
    found = example(name).main(**budget)
    curves, tenth = found.get("taught", found), found["tenth"]
    late = np.mean(curves["wrong"][-tenth:])
    assert np.mean(curves["wrong"][:4]) > 0.4, "at first it guesses"
    assert late < 0.25
    assert np.mean(curves["reward"][-tenth:]) > np.mean(curves["reward"][:tenth])
    assert f"wrong choices {late:.2f}" in capsys.readouterr().out


def test_own_graph_is_learned_by_hearing(example: Load) -> None:
    results = example("own_graph").main()
    assert set(results["all"]["mean_mask"]) == {"structure", "sound", "fused"}
    assert results["all"]["test"]["mrr"] > results["none"]["test"]["mrr"] + 0.05


def test_own_teacher_teaches(example: Load, capsys: pytest.CaptureFixture[str]) -> None:
    results = example("own_teacher").main(**TINY)
    assert results["all"]["mean_mask"] == {"popular": 1.0, "structure": 1.0}
    assert results["all"]["test"] != results["none"]["test"]
    # What it answers by itself, ranked here by nothing but degrees.
    import torch

    graph = load_graph(SMALL)
    queries = graph.queries("test")
    scores = torch.tensor(graph.degrees, dtype=torch.float32).expand(len(queries), -1)
    keys = graph.query_keys(queries.entities, queries.relations)
    answers = torch.from_numpy(queries.answers)
    ranks = filtered_ranks(scores, keys, answers, graph.evaluation_filter("test"))
    assert f"test MRR {np.mean(1 / ranks):.4f}" in capsys.readouterr().out.splitlines()[0]


def test_own_student_is_the_one_that_learns(example: Load) -> None:
    module = example("own_student")
    results = module.main(**TINY)
    usual, warm = results["complex"], results["warm-complex"]
    assert warm["curves"]["train_loss"][0] != usual["curves"]["train_loss"][0]
    assert warm["student_steps"] == usual["student_steps"]


def test_own_reward_is_what_the_agent_learns(example: Load) -> None:
    results = example("own_reward").main(**(TINY | {"epochs": 5}))
    rewards = results["ppo"]["curves"]["reward"]
    # A coin per teacher earns 1/16 · (4·1 + 6/2 + 4/3 + 1/4) = .536; one teacher, always, 1.
    assert rewards[0] < rewards[-1]
    assert rewards[-1] > 0.75
    assert results["ppo"]["hyperparameters"]["environment"]["reward"] == "few-teachers"


def test_own_agents_are_in_the_comparison(tmp_path: Path) -> None:
    """In a process of its own: so workers come to know what the script registers."""
    tiny = ("--dataset", SMALL, "--epochs", 1, "--batch", 64, "--set", "rank=8")
    command = [sys.executable, FOLDER / "own_agent.py", "--out", tmp_path, *tiny]
    command += ["--set", "teacher_rank=8"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert results["complete"]
    runs = {run["agent"]: run for run in results["runs"]}
    assert list(runs) == ["all", "random", "confident", "small-a2c"]
    assert runs["small-a2c"]["hyperparameters"]["policy"] == {"net_arch": [16]}
    assert all(f"\n{agent} " in done.stdout for agent in runs)


@pytest.mark.filterwarnings("ignore")
def test_rllib_steps_the_vector_environment_natively(example: Load) -> None:
    pytest.importorskip("ray.rllib", reason="extra interop")
    module = example("rllib_ppo")
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    settings = {"rank": 8, "teacher_rank": 8}
    runner = SingleAgentEnvRunner(config=module.configuration(SMALL, 16, 8, 0, settings))
    env = runner.env.unwrapped
    assert type(env).__name__ == "DSoMVectorEnv"
    episodes = runner.sample(num_timesteps=16 * 40, random_actions=True)
    assert sum(len(episode) for episode in episodes) >= 16 * 40
    # One update of one student for 16 queries; those between two episodes teach nothing.
    steps = env.classroom.trainer.steps
    assert 40 <= steps <= 44
    assert all(len(episode) == 16 for episode in episodes if episode.is_done)
    runner.stop()
    budget: dict[str, Any] = {"num_envs": 32, "rounds": 16, "iterations": 12}
    found = module.main(dataset=SMALL, **budget, **settings)
    assert found["updates"] >= 12 * 16
    assert np.mean(found["reward"][-3:]) > found["reward"][0]


def test_what_torchrl_looks_for_is_there_also_without_it() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
        gym.make("DSoM-v0", dataset=SMALL, frameskip=1)
    venv: Any = gym.make_vec("DSoM-v0", num_envs=2, dataset=SMALL, autoreset_mode="disabled")
    assert venv.autoreset_mode is AutoresetMode.DISABLED


@pytest.mark.filterwarnings("ignore")
def test_torchrl_learns_in_both_environments(example: Load) -> None:
    pytest.importorskip("torchrl", reason="extra interop")
    module = example("torchrl_ppo")
    found = module.main(dataset=SMALL, iterations=40, num_envs=32, rank=8, teacher_rank=8)
    scalar = found["scalar"]
    assert scalar["next", "terminated"].flatten().tolist() == [False, False, False, True] * 2
    assert set(scalar["action"].unique().tolist()) <= {0, 1}
    assert found["updates"] == 40 * 4
    assert np.mean(found["reward"][-8:]) > np.mean(found["reward"][:8])
