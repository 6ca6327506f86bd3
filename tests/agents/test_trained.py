"""Trained agents: what is saved is what chooses, and where it cannot it says why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from agents.names import folder_of
from agents.registry import AGENTS, agent_spec
from agents.trained import read_trained, save_trained
from agents.trial import about_agent, make_environment, make_learner, run_trial
from agents.trial_config import TrialConfig, environment_of, resolve
from dsom_env.actions import action_masks, decode
from dsom_env.sb3 import SB3VecEnv
from graphs import load_graph
from tests.agents.conftest import SMALL
from tests.programs import program

LEARNERS = [name for name, spec in AGENTS.items() if spec.learner]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small_trial: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("ppo")
    run_trial(TrialConfig("ppo", **small_trial), folder)
    return folder


def greedy(weights: dict[str, torch.Tensor], observation: np.ndarray) -> np.ndarray:
    """The mask with the highest probability, by the arithmetic of a network of two layers."""
    hidden = torch.from_numpy(observation)
    for layer in (0, 2):
        name = f"mlp_extractor.policy_net.{layer}"
        hidden = torch.tanh(hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
    logits = hidden @ weights["action_net.weight"].T + weights["action_net.bias"]
    found: np.ndarray = (logits > 0).float().numpy()
    return found


def test_a_fresh_student_is_taught_what_the_weights_say(
    trained: Path, small_trial: dict[str, Any]
) -> None:
    """The agent sees the relation alone, so that its choices are known before anything runs."""
    config = TrialConfig(f"trained:{trained}", seed=7, **small_trial)
    result = run_trial(config)
    weights = safetensors.torch.load_file(trained / "policy.safetensors")
    spec, teachers = resolve(config)
    env: Any = make_environment(config, teachers, environment_of(config))
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    queries = classroom.queries
    masks = greedy(weights, classroom.observe(classroom.lesson(np.arange(len(queries)))))
    assert len(np.unique(masks, axis=0)) > 1, "or it would choose nothing"
    for relation, label in enumerate(classroom.graph.relation_labels):
        both = queries.relations % classroom.graph.num_relations == relation
        told = result["mask_by_relation"][label]
        expected = dict(zip(teachers, masks[both].mean(axis=0).tolist(), strict=True))
        # Some queries of the last epoch's tail are taught more often than others.
        for name in teachers:
            shares = told[name] if name in told else told["shares"][name]
            assert shares == pytest.approx(expected[name], abs=0.1)
    assert not spec.oracle
    assert "hyperparameters" not in result, "it does not learn"


@pytest.mark.parametrize("agent", LEARNERS)
def test_every_learner_chooses_the_same_from_its_file(
    agent: str, tmp_path: Path, small_trial: dict[str, Any]
) -> None:
    config = TrialConfig(agent, **small_trial)
    spec, teachers = resolve(config)
    arguments = environment_of(config)
    env: Any = make_environment(config, teachers, arguments)
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    model = make_learner(config, spec, SB3VecEnv(env))
    if agent in ("linucb", "thompson"):
        # Theirs are moments of what was seen, and not any numbers.
        model.learn(64 * 8)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.policy.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator), alpha=0.3)
    save_trained(tmp_path, about_agent(config, classroom), model.policy.state_dict())
    policy = agent_spec(f"trained:{tmp_path}", teachers).policy
    assert policy is not None
    frozen = policy()
    frozen.prepare(classroom, pytest.fail)
    lesson = classroom.lesson(np.linspace(0, len(classroom.queries) - 1, 48).astype(np.int64))
    mode = classroom.config.action_mode
    extra = {}
    if agent == "maskable_ppo":
        extra = {"action_masks": action_masks(mode, classroom.allowed(lesson.queries))}
    actions, _ = model.predict(classroom.observe(lesson), deterministic=True, **extra)
    expected = decode(mode, actions, 48, len(teachers))
    chosen = frozen.decide(classroom, lesson, np.random.default_rng(0))
    assert np.array_equal(chosen.weights, expected.weights)
    assert len(np.unique(chosen.weights, axis=0)) > 1


def refuses(trained: Path, says: str, small_trial: dict[str, Any], **changes: Any) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        resolve(TrialConfig(f"trained:{trained}", **(small_trial | changes)))


def test_where_choices_would_mean_something_else_it_is_refused(
    trained: Path, small_trial: dict[str, Any]
) -> None:
    refuses(trained, "relations apart", small_trial, dataset=f"{SMALL},seed=2")
    refuses(trained, "relations apart", small_trial, dataset="emoji")
    refuses(trained, "--teachers structure,image", small_trial, teachers=("text", "image"))
    other = {"environment": {"rank": 8, "teacher_rank": 8, "hide": ["answer"]}}
    refuses(trained, "sees 33 columns", small_trial, **other)
    refuses(trained / "no", "agent.json is missing", small_trial)
    with pytest.raises(ValueError, match="do not learn"):
        agent_spec(f"all-then-trained:{trained}", ("text",))


def test_relations_of_the_same_names_are_known_on_another_graph(
    trained: Path, small_trial: dict[str, Any]
) -> None:
    noisy = f"{SMALL},noise=0.5"
    assert load_graph(noisy).fingerprint != load_graph(SMALL).fingerprint
    resolve(TrialConfig(f"trained:{trained}", **(small_trial | {"dataset": noisy})))


def _shorten(document: dict[str, Any]) -> None:
    del document["teachers"]


def _rename(document: dict[str, Any]) -> None:
    document["agent"] = "poo"


def _unhide(document: dict[str, Any]) -> None:
    document["environment"]["hide"] = ["everything"]


def _widen(document: dict[str, Any]) -> None:
    document["policy"]["net_arch"] = [8]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_shorten, "expected .* under 'teachers'"),
        (_rename, "did you mean 'ppo'"),
        (_unhide, "hide: unknown 'everything'"),
        (_widen, "does not hold an agent ppo"),
    ],
)
def test_a_damaged_description_is_refused_by_name(
    damage: Callable[[dict[str, Any]], None],
    says: str,
    trained: Path,
    tmp_path: Path,
    small_trial: dict[str, Any],
) -> None:
    document = json.loads((trained / "agent.json").read_text("utf-8"))
    damage(document)
    (tmp_path / "agent.json").write_text(json.dumps(document))
    (tmp_path / "policy.safetensors").write_bytes((trained / "policy.safetensors").read_bytes())
    with pytest.raises(ValueError, match=says) as error:
        run_trial(TrialConfig(f"trained:{tmp_path}", **small_trial))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\x80\x04.", "speaks of"), (None, "is missing"), ("nan", "finite numbers")],
)
def test_weights_that_are_not_those_are_refused(
    content: bytes | str | None,
    says: str,
    trained: Path,
    tmp_path: Path,
    small_trial: dict[str, Any],
) -> None:
    about = read_trained(trained)
    weights = safetensors.torch.load_file(trained / "policy.safetensors")
    if content == "nan":
        weights["action_net.bias"][0] = torch.nan
    save_trained(tmp_path, about, weights)
    if isinstance(content, bytes):
        (tmp_path / "policy.safetensors").write_bytes(content)
    elif content is None:
        (tmp_path / "policy.safetensors").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        run_trial(TrialConfig(f"trained:{tmp_path}", **small_trial))


def test_other_weights_are_another_trial(
    trained: Path, tmp_path: Path, small_trial: dict[str, Any]
) -> None:
    about = read_trained(trained)
    weights = safetensors.torch.load_file(trained / "policy.safetensors")
    config = TrialConfig(f"trained:{tmp_path}", **small_trial)
    save_trained(tmp_path, about, weights)
    before = config.key
    weights["action_net.bias"] += 1
    save_trained(tmp_path, about, weights)
    assert config.key != before


def test_its_trials_stay_in_the_folder_of_the_comparison(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "trained:a/../../../b", 0).resolve()
    assert folder.is_relative_to(tmp_path.resolve() / "trials")


def test_evaluate_teaches_a_fresh_student_beside_others(trained: Path, tmp_path: Path) -> None:
    record = tmp_path / "recorded.json"
    settings = ("--set", "rank=8", "--set", "teacher_rank=8", "--batch", 64, "--epochs", 1)
    asked = ("--dataset", SMALL, "--seeds", "5,", "--beside", "all", "--quiet", "--record", record)
    done = program("evaluate.py", "--agent", trained, *asked, *settings)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(record.read_text("utf-8"))["runs"]
    assert f"\ntrained:{trained}" in f"\n{done.stdout}"
    assert f"{run['test_mrr']:.4f}" in done.stdout
    assert run["seed"] == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--agent with that of an agent"),
        (["somewhere", "--agent", "emoji-ppo"], "--agent with that of an agent"),
        (["--agent", "emoji-pppo"], "did you mean 'emoji-ppo'"),
        (["--agent", "emoji-ppo", "--split", "valid"], "--split"),
        (["--agent", "emoji-ppo", "--dataset", "planted-easy"], "relations apart"),
        (["somewhere", "--epochs", "3"], "--epochs is about --agent"),
    ],
)
def test_evaluate_refuses_what_contradicts_itself(arguments: list[str], says: str) -> None:
    done = program("evaluate.py", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
