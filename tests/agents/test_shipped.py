"""The trained agents that ship choose as recorded, and teach a fresh student as well."""

import json

import pytest
import yaml

from agents.hyperparameters import hyperparameters_file, load_hyperparameters
from agents.hyperparameters.editing import MARK
from agents.names import TRAINED
from agents.trained import RECORD, read_trained, read_weights, shipped
from agents.trial import run_trial
from agents.trial_config import TrialConfig
from agents.tuning.space import flat, read_space
from graphs import load_graph

# Of valid and test MRR. Their last bits depend on processor and threads: with one and two they
# differed by 1.4e-6 on two cores of an Intel Xeon.
TOLERANCE = 0.002


def test_those_that_are_promised_ship_small() -> None:
    found = shipped()
    assert set(found) == {"emoji-ppo", "emoji-a2c", "emoji-reinforce"}
    for folder in found.values():
        about = read_trained(folder)
        read_weights(folder, about)
        assert about.dataset == "emoji"
        assert about.graph == load_graph("emoji").fingerprint
        assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000


@pytest.mark.parametrize("name", sorted(shipped()))
def test_what_was_recorded_comes_again(name: str) -> None:
    recorded = json.loads((shipped()[name] / RECORD).read_text("utf-8"))
    run = recorded["runs"][0]
    result = run_trial(TrialConfig(f"{TRAINED}{name}", run["seed"], **recorded["trial"]))
    assert result["mask_by_relation"] == run["mask_by_relation"]
    assert result["valid"]["mrr"] == pytest.approx(run["valid_mrr"], abs=TOLERANCE)
    assert result["test"]["mrr"] == pytest.approx(run["test_mrr"], abs=TOLERANCE)


def test_what_ships_for_a_graph_is_a_studys_choice() -> None:
    """Under a graph's name stands a value for all that the agent's space holds, out of it."""
    text = hyperparameters_file("ppo").read_text("utf-8")
    lines = text.splitlines()
    comment = lines[lines.index("emoji:") - 1]
    assert comment.startswith(MARK)
    assert "tune.py --agent ppo --dataset emoji" in comment
    chosen, loaded = flat(yaml.safe_load(text)["emoji"]), flat(load_hyperparameters("ppo", "emoji"))
    space, _ = read_space("ppo", None)
    assert chosen.keys() == space.keys()
    for key, value in chosen.items():
        assert value in space[key], key
        assert loaded[key] == value
