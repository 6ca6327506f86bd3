"""What gradient modulation does to a fused teacher: the study behind `scripts/modulation.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from agents.backends import Backend
from agents.recording import open_writer
from agents.report.markdown import table
from agents.resuming import RESULT, finished
from agents.statistics import mean_interval, paired_difference
from agents.workers import run_all, tell_progress
from graphs import MultimodalGraph, load_graph
from graphs.files import atomic_write, config_hash
from students.evaluation import evaluate_ranking
from students.training import Trainer
from teachers.fused import Fused
from teachers.modulation import Competence, Modulation, Modulator, discrepancy
from teachers.pretraining import PretrainingConfig, pretrain

FORMAT = 1
PLAIN = "none"
_QUERIES = 1024


@dataclass(frozen=True)
class ModulatedTeacher:
    """Everything that decides one run.

    Attributes:
        form: `none`, `own`, `mspt`, or one of the last two with its `α`, as in `mspt:0.3`.
        dataset: name or path of the graph.
        teacher: one that fuses modalities.
        config: its pre-training; the modulation in it is not looked at.
    """

    form: str
    dataset: str = "emoji"
    teacher: str = "fused"
    config: PretrainingConfig = field(default_factory=PretrainingConfig)

    @property
    def modulation(self) -> Modulation:
        """What the form means.

        Raises:
            ValueError: no such form, or `α` is no number.
        """
        name, colon, alpha = self.form.partition(":")
        if name == PLAIN and not colon:
            return Modulation(None)
        form: Any = name
        try:
            return Modulation(form, float(alpha)) if colon else Modulation(form)
        except ValueError as error:
            raise ValueError(f"forms: {self.form!r} is not understood: {error}") from None

    @property
    def key(self) -> str:
        """Hash of the configuration and the graph."""
        known = {"format": FORMAT, "graph": load_graph(self.dataset).fingerprint}
        return config_hash({**known, **asdict(self)})


def run_modulated(run: ModulatedTeacher, folder: Path) -> dict[str, Any]:
    """Train one teacher; `folder` gets `result.json` and TensorBoard files."""
    graph = load_graph(run.dataset)
    modulator = Modulator(graph, run.modulation, run.config.seed)
    plain = replace(run.config, modulation=None)
    scorer = pretrain(graph, run.teacher, plain, modulator=modulator)
    assert isinstance(scorer, Fused)  # noqa: S101 - the command line looked
    competences = competences_of(scorer, graph)
    writer = open_writer(folder)
    assert writer is not None  # noqa: S101 - there is a folder
    for epoch, by_modality in enumerate(modulator.competences, start=1):
        writer.add_scalar("teacher/discrepancy", modulator.discrepancies[epoch - 1], epoch)
        for name, value in by_modality.items():
            writer.add_scalar(f"teacher/competence/{name}", value, epoch)
    writer.close()
    result = {
        "form": run.form,
        "seed": run.config.seed,
        "epochs": len(modulator.competences),
        "competences": competences,
        "discrepancy": discrepancy(list(competences.values())),
        "curve": modulator.discrepancies,
        **{split: evaluate_ranking(scorer, graph, split)["mrr"] for split in ("valid", "test")},
    }
    document = json.dumps({"key": run.key, "result": result}, indent=1)
    atomic_write(folder / RESULT, document.encode())
    return result


def competences_of(scorer: Fused, graph: MultimodalGraph) -> dict[str, float]:
    """Competence of every modality over all training queries, by name."""
    competence, trainer = Competence(graph), Trainer(scorer.requires_grad_(True), graph)
    queries = graph.queries("train")
    total, count = np.zeros(len(competence.names)), 0
    for start in range(0, len(queries), _QUERIES):
        batch = trainer.forward(queries[start : start + _QUERIES])
        means, found = competence(scorer, batch)
        total += found * means.double().cpu().numpy()
        count += found
    scorer.requires_grad_(False)
    values = (total / max(count, 1)).tolist()
    return dict(zip(competence.names, values, strict=True))


def run_modulations(
    runs: Sequence[ModulatedTeacher], out: Path, jobs: int, quiet: bool = False
) -> list[dict[str, Any]]:
    """Results of all runs, in their order; those that `out` holds already are kept.

    Raises:
        ValueError: a bad form, a graph with fewer than two modalities, or `out` belongs to another
            configuration.
    """
    # Refused before any work.
    for run in runs:
        _ = run.modulation
    Competence(load_graph(runs[0].dataset))
    folders = [out / run.form.replace(":", "-") / str(run.config.seed) for run in runs]
    found = [
        finished(folder, run.key, _result_of) for run, folder in zip(runs, folders, strict=True)
    ]
    waiting = [place for place, result in enumerate(found) if result is None]
    calls = [(place, (runs[place], folders[place])) for place in waiting]
    with tqdm(total=len(waiting), unit="teacher", disable=quiet) as bar:
        for place, result in run_all(_run_in_worker, calls, Backend(jobs=jobs), bar):
            if isinstance(result, str):
                raise ChildProcessError(result)
            found[place] = result
    return [result for result in found if result is not None]


def _run_in_worker(run: ModulatedTeacher, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    result = run_modulated(run, folder)
    tell_progress()
    return result


def _result_of(document: Any) -> dict[str, Any]:
    return dict(document["result"])


def render_modulations(results: Sequence[dict[str, Any]]) -> str:
    """The runs as Markdown: discrepancy and MRR by form, and differences to none by seed."""
    forms = list(dict.fromkeys(result["form"] for result in results))
    by_form = {form: {r["seed"]: r for r in results if r["form"] == form} for form in forms}
    rows = []
    for form in forms:
        runs = by_form[form].values()
        shown = [_shown([run["discrepancy"] for run in runs], 1, 3)]
        shown += [_shown([run[split] for run in runs], 100, 2) for split in ("valid", "test")]
        differences = []
        for name, scale, digits in (("discrepancy", 1, 3), ("test", 100, 2)):
            values = [
                {seed: scale * run[name] for seed, run in by_form.get(one, {}).items()}
                for one in (form, PLAIN)
            ]
            known = form != PLAIN and values[0].keys() & values[1].keys()
            differences.append(_difference(values[0], values[1], digits) if known else "–")
        competences = {
            name: float(np.mean([run["competences"][name] for run in runs]))
            for name in next(iter(runs))["competences"]
        }
        alone = ", ".join(f"{name} {value:.4f}" for name, value in competences.items())
        rows.append([f"`{form}`", alone, *shown, *differences])
    columns = ["form", "competence alone", "discrepancy", "valid MRR", "test MRR"]
    return table([*columns, "discrepancy − none", "test MRR − none"], rows)


def _shown(values: Sequence[float], scale: float, digits: int) -> str:
    if not all(map(math.isfinite, values)):
        return "∞"
    mean, interval = mean_interval(scale * np.array(values))
    half = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.{digits}f}"
    return f"{mean:.{digits}f}{half}"


def _difference(scores: dict[int, float], others: dict[int, float], digits: int) -> str:
    mean, interval = paired_difference(scores, others)
    if interval is None:
        return f"{mean:+.{digits}f}"
    shown = f"{mean:+.{digits}f} [{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"
    return shown if interval[0] <= 0 <= interval[1] else f"**{shown}**"
