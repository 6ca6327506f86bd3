"""Trained agents in a folder: `policy.safetensors`, and `agent.json`, which says what it decides.

Whoever trains one (`scripts/train.py`, `compare.py`) leaves such a folder; those beside this module
ship. `trained:<folder>` is then an agent that chooses and learns no more (`agents.frozen`). Beside
those that ship, `recorded.json` says what came of it (`scripts/evaluate.py --record`), and a test
that it still does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from dsom_env.config import DSoMConfig
from dsom_env.vector_env import DSoMVectorEnv
from graphs.files import atomic_write
from graphs.naming import nearest, shown
from graphs.text_files import read_json

FORMAT = 1
ABOUT = "agent.json"
WEIGHTS = "policy.safetensors"
RECORD = "recorded.json"
# Arguments of the environment by which a policy sees and acts; all others are the student's.
OF_A_POLICY = ("hide", "relation_code", "judged_folds", "action_mode", "allow_empty")
_NUMBERED = "relation_code_"


@dataclass(frozen=True)
class TrainedAgent:
    """What is known of a trained agent, beside its weights; the content of `agent.json`.

    Attributes:
        agent: whose learner it is, a name of the registry or of a variant.
        seed: that it was trained with.
        dataset: name or path of the graph that it was trained on.
        graph: fingerprint of this graph.
        relations: labels of its relations, in the order of their numbers.
        epochs: of the student that it was trained beside.
        batch: queries per decision in training.
        teachers: that it chooses among, in the order of its actions.
        columns: of its observations, in their order.
        environment: values of `OF_A_POLICY`.
        horizon: steps of an episode in training.
        algorithm: hyperparameters, as a learner takes them.
        policy: arguments of its network.
        sha256: of the file of its weights.
    """

    agent: str
    seed: int
    dataset: str
    graph: str
    relations: tuple[str, ...]
    epochs: int
    batch: int
    teachers: tuple[str, ...]
    columns: tuple[str, ...]
    environment: dict[str, Any]
    horizon: int
    algorithm: dict[str, Any]
    policy: dict[str, Any]
    sha256: str

    @property
    def numbers_relations(self) -> bool:
        """Whether it sees which relation a query has, which means something on its graph alone."""
        return any(name.startswith(_NUMBERED) for name in self.columns)

    def check(self, name: str, env: DSoMVectorEnv) -> None:
        """Refuse an environment in which its choices would mean something else than in training.

        Args:
            name: what errors call the agent.
            env: where it is to choose.

        Raises:
            ValueError: other teachers, other columns, or other relations where it tells them apart.
        """
        if env.teachers != self.teachers:
            raise ValueError(
                f"{name} chooses among the teachers {', '.join(self.teachers)}, in this order, and "
                f"not among {', '.join(env.teachers)}; --teachers {','.join(self.teachers)} makes "
                "them the same where the graph has them"
            )
        if env.feature_names != self.columns:
            raise ValueError(
                f"{name} sees {len(self.columns)} columns and the environment shows "
                f"{len(env.feature_names)}; {_difference(self.columns, env.feature_names)}"
            )
        if self.numbers_relations and env.graph.relation_labels != self.relations:
            raise ValueError(
                f"{name} tells relations apart by their numbers, and those of {env.graph.name} are "
                f"not those of {self.dataset}, where it was trained: there its choices would be "
                "arbitrary; train one that hides the relation, as ppo@transfers in "
                "docs/ablations.yml"
            )


def _difference(trained: Sequence[str], here: Sequence[str]) -> str:
    missing = [name for name in trained if name not in here]
    new = [name for name in here if name not in trained]
    if missing:
        return f"{missing[0]} is not among them"
    return f"{new[0]} is new" if new else "their order is another"


def save_trained(folder: Path, about: TrainedAgent, weights: dict[str, Tensor]) -> TrainedAgent:
    """Write a trained agent; its `sha256` is filled in, and what was written is returned."""
    content = safetensors.torch.save({k: v.contiguous() for k, v in weights.items()})
    written = {**asdict(about), "sha256": hashlib.sha256(content).hexdigest()}
    atomic_write(folder / WEIGHTS, content)
    document = json.dumps({"format": FORMAT, **written}, indent=1, ensure_ascii=False)
    atomic_write(folder / ABOUT, f"{document}\n".encode())
    return TrainedAgent(**written)


def shipped() -> dict[str, Path]:
    """The trained agents that ship, by name."""
    here = Path(__file__).parent
    return {path.parent.name: path.parent for path in sorted(here.glob(f"*/{ABOUT}"))}


def folder_of_trained(name: str) -> Path:
    """The folder of a trained agent.

    Args:
        name: of one that ships, or a path.

    Raises:
        FileNotFoundError: there is none.
    """
    ours = shipped()
    folder = ours.get(name, Path(name))
    if not (folder / ABOUT).is_file():
        alike = f"; did you mean {nearest(name, ours)!r}?" if ours else ""
        raise FileNotFoundError(
            f"{folder / ABOUT} is missing: expected the folder of a trained agent, or the name of "
            f"one that ships ({', '.join(ours) or 'there are none'}){alike}"
        )
    return folder


def read_trained(folder: Path) -> TrainedAgent:
    """What `agent.json` in `folder` says.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it does not say all that it has to, or in another format.
    """
    return read_json(folder / ABOUT, _parsed)


def _parsed(document: Any) -> TrainedAgent:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"not a trained agent of format {FORMAT}")
    kinds: dict[str, type[Any]] = {"str": str, "int": int, "dict[str, Any]": dict}
    found: dict[str, Any] = {}
    for field in fields(TrainedAgent):
        value: Any = document.get(field.name)
        # What is no name, number or mapping is a list of names.
        kind = kinds.get(str(field.type), list)
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if fits and kind is list:
            fits = all(isinstance(part, str) for part in value)
        if not fits:
            raise ValueError(
                f"not a trained agent: expected {field.type} under {field.name!r}, got "
                f"{shown(value)}"
            )
        found[field.name] = tuple(value) if kind is list else value
    environment = found["environment"]
    if set(environment) != set(OF_A_POLICY):
        raise ValueError(
            f"not a trained agent: expected {', '.join(OF_A_POLICY)} under 'environment', got "
            f"{shown(sorted(environment))}"
        )
    # What the environment refuses is refused here, with the file's name.
    DSoMConfig.from_kwargs(**environment)
    if min(found["batch"], found["horizon"]) < 1:
        raise ValueError("not a trained agent: batch and horizon must be at least 1")
    return TrainedAgent(**found)


def read_weights(folder: Path, about: TrainedAgent) -> dict[str, Tensor]:
    """The weights beside `agent.json`.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are not those that `agent.json` speaks of, or not finite.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected the weights of a trained agent")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != about.sha256:
        raise ValueError(f"{path} does not hold the weights that {ABOUT} beside it speaks of")
    try:
        weights = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} does not hold weights: {error}") from None
    for name, values in weights.items():
        if not bool(values.isfinite().all()):
            raise ValueError(f"{path}: expected finite numbers, got others in {name!r}")
    return weights


def write_record(path: Path, results: Mapping[str, Any], agent: str) -> None:
    """Write what came of a trained agent in a comparison, so that it can be seen to come again.

    Args:
        path: JSON file.
        results: content of `results.json`.
        agent: the trained one, by its name there.
    """
    runs = [
        {
            "seed": run["seed"],
            "valid_mrr": run["valid"]["mrr"],
            "test_mrr": run["test"]["mrr"],
            "mask_by_relation": run["mask_by_relation"],
        }
        for run in results["runs"]
        if run["agent"] == agent
    ]
    names = ("dataset", "epochs", "batch", "environment", "reward", "teachers")
    settings = {name: results["config"][name] for name in names}
    document = {"trial": settings, "runs": runs, "provenance": results["provenance"]}
    atomic_write(path, f"{json.dumps(document, indent=1, ensure_ascii=False)}\n".encode())
