"""A study's best choices: in the terminal, and in the YAML of the agent."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.hyperparameters import OF_AN_AGENT, hyperparameters_file
from agents.hyperparameters.editing import edit_hyperparameters
from agents.report.outcome import shown_command
from agents.trial_config import resolve
from agents.tuning.config import TuningConfig
from agents.tuning.space import by_section
from graphs.files import atomic_write, refusing


def ranking(document: Mapping[str, Any], most: int = 10) -> str:
    """The best choices of a study as a table for the terminal, and what became of the others."""
    trials = document["trials"]
    ranked = sorted(
        (trial for trial in trials if trial["state"] == "complete"),
        key=lambda trial: -trial["valid_mrr"],
    )
    names = [
        (section, name)
        for section, parameters in document["config"]["space"].items()
        for name in parameters
    ]
    rows = [["trial", "valid MRR", "by seed", "seconds", *(name for _, name in names)]]
    for trial in ranked[:most]:
        values = [_shown(trial["parameters"][section][name]) for section, name in names]
        seeds = " ".join(f"{value:.4f}" for value in trial["valid_mrr_by_seed"])
        figures = [f"{trial['valid_mrr']:.4f}", seeds, f"{trial['seconds']:.1f}"]
        rows.append([str(trial["number"]), *figures, *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    states = [trial["state"] for trial in trials]
    counts = (f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
    lines += ["", f"trials: {', '.join(counts)}"]
    for trial in ranked:
        if trial["present"]:
            lines.append(
                f"trial {trial['number']} is what stood in the YAML or is the default: rank "
                f"{ranked.index(trial) + 1}, valid MRR {trial['valid_mrr']:.4f}"
            )
    return "\n".join(lines)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_of(parameters: Mapping[str, Mapping[str, Any]]) -> str:
    """The environment of a choice as options of `compare.py`."""
    words = []
    for name, value in parameters.get("environment", {}).items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += ["--reward", text] if name == "reward" else ["--set", f"{name}={text}"]
    return shlex.join(words)


def writable_file(config: TuningConfig) -> Path:
    """The YAML that a winner would go into.

    Raises:
        ValueError: there is none, it cannot be written, or the winner must not go there.
    """
    agent = config.trial.agent
    spec, _ = resolve(config.trial)
    if spec.learner is None:
        raise ValueError(
            f"{agent} does not learn and has no YAML: its settings are the whole comparison's, "
            "given to compare.py by --set"
        )
    if spec.hyperparameters is not None:
        raise ValueError(f"{agent} was plugged in: its YAML is in the program that did so")
    for name in by_section(config.space).get("environment", {}):
        if name not in OF_AN_AGENT:
            raise ValueError(
                f"{name} has to be the same for every agent that is compared, so {agent}.yml may "
                "not hold it: search it with --agent all and give it to compare.py by --set"
            )
    path = hyperparameters_file(agent)
    if not isinstance(path, Path) or not all(
        os.access(place, os.W_OK) for place in (path, path.parent)
    ):
        raise ValueError(f"{path} cannot be written; leave out --write, the winner is in --out")
    return path


def write_winner(config: TuningConfig, document: Mapping[str, Any], entry: str) -> Path:
    """Put the best choice, and what was fixed for this agent alone, into its YAML.

    Args:
        config: the study.
        document: its `study.json`.
        entry: `default` or the name of a dataset.

    Returns:
        The file.

    Raises:
        ValueError: see `writable_file` and `edit_hyperparameters`; or no choice is complete.
    """
    path = writable_file(config)
    best = document["best"]
    if best is None:
        raise ValueError("no trial is complete: there is no winner to write")
    fixed = config.trial.settled
    environment = {name: value for name, value in fixed.items() if name in OF_AN_AGENT}
    environment |= best["parameters"].get("environment", {})
    sections = {**best["parameters"], "environment": environment}
    command = shown_command(
        document["provenance"]["command"], config.trial.dataset, document["graph"]["name"]
    )
    finished = sum(trial["state"] in ("complete", "pruned") for trial in document["trials"])
    comment = (
        f"valid MRR {best['valid_mrr']:.4f}, mean of seeds {', '.join(map(str, config.seeds))}; "
        f"best of {finished} trials of {config.trial.epochs} epochs: {command}"
    )
    chosen = {section: values for section, values in sections.items() if values}
    with refusing(str(path)):
        edited = edit_hyperparameters(path.read_text("utf-8"), entry, chosen, comment)
    atomic_write(path, edited.encode())
    return path
