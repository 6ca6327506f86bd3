"""AMID's claim, put to the test: which term of the objective does what to teacher and student.

The paper's claim (methods.md §5, paper): with I(T;S) alone the co-trained teacher gets worse,
towards the student; with I(T;A) it does not; with H(T|S) the student gets closer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.cotraining_records import open_epochs
from agents.machine import provenance
from agents.resuming import RESULT, finished
from graphs import MultimodalGraph, load_graph
from graphs.files import atomic_write, config_hash
from students.evaluation import evaluate_ranking
from students.scorer import Scorer
from teachers.amid import CotrainingConfig
from teachers.cotraining import cotrain
from teachers.pretraining import PretrainingConfig, Report
from teachers.registry import make_teacher

FORMAT = 1
TERMS = ("student", "auxiliary", "entropy")
# By name, the terms that are on.
VARIANTS: dict[str, tuple[str, ...]] = {
    "none": (),
    "I(T;S)": ("student",),
    "I(T;S)+I(T;A)": ("student", "auxiliary"),
    "I(T;S)+H(T|S)": ("student", "entropy"),
    "all": TERMS,
}
Run = dict[str, Any]


@dataclass(frozen=True)
class ClaimConfig:
    """What is trained to see which term does what.

    Attributes:
        dataset: name or path of the graph.
        seeds: of initial values and batch order, the same for every variant.
        pretraining: sizes and budget, all of which is spent; its seed and co-training are ignored.
        strengths: weights of the terms where they are on, and sizes.
        teacher: name of the teacher.
    """

    dataset: str = "emoji"
    seeds: tuple[int, ...] = (0, 1, 2)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    strengths: CotrainingConfig = field(default_factory=CotrainingConfig)
    teacher: str = "fused"

    def __post_init__(self) -> None:
        """Refuse repeated seeds, and a term that could not be switched on."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be distinct and at least one, got {list(self.seeds)}")
        for term in TERMS:
            if not getattr(self.strengths, term):
                raise ValueError(f"{term} must be above 0: the variants switch it off themselves")

    def key(self, variant: str, seed: int, graph: MultimodalGraph) -> str:
        """Hash of everything that decides a run."""
        settings = [asdict(self.pretraining_of(seed)), asdict(self.cotraining_of(variant))]
        decisive = [FORMAT, graph.fingerprint, self.teacher, *settings]
        return config_hash(decisive)

    def pretraining_of(self, seed: int) -> PretrainingConfig:
        """Sizes and budget of a run."""
        return replace(self.pretraining, seed=seed, cotraining=None)

    def cotraining_of(self, variant: str) -> CotrainingConfig:
        """The objective of a variant: the strengths, and 0 for the terms that are off."""
        off = {term: 0.0 for term in TERMS if term not in VARIANTS[variant]}
        return replace(self.strengths, **off)  # type: ignore[arg-type]


def try_claim(config: ClaimConfig, out: Path, report: Report | None = None) -> dict[str, Any]:
    """Co-train every variant with every seed, and write `results.json`.

    Args:
        config: what to train.
        out: folder of results; runs that it holds already are kept, so the same call resumes.
        report: called with a line per epoch.

    Returns:
        The content of `results.json` (docs/amid.md).

    Raises:
        ValueError: bad configuration, or `out` holds runs of another one.
    """
    graph = load_graph(config.dataset)
    if not graph.modalities:
        raise ValueError(f"graph {graph.name!r} has no modalities: there is nothing to co-train")
    wanted = [(variant, seed) for seed in config.seeds for variant in VARIANTS]
    # All are looked at before any is run, so that a foreign folder is found at once.
    found = [finished(_folder(out, *one), config.key(*one, graph), _run_of) for one in wanted]
    runs = [
        run or run_variant(config, *one, _folder(out, *one), report)
        for one, run in zip(wanted, found, strict=True)
    ]
    order = list(VARIANTS)
    runs.sort(key=lambda run: (order.index(run["variant"]), run["seed"]))
    results = {
        "format": FORMAT,
        "config": asdict(config),
        "graph": {"name": graph.name, "fingerprint": graph.fingerprint},
        "provenance": provenance(),
        "runs": runs,
    }
    atomic_write(out / "results.json", json.dumps(results, indent=1).encode())
    return results


def run_variant(
    config: ClaimConfig, variant: str, seed: int, folder: Path, report: Report | None = None
) -> Run:
    """One co-training; the last line reads test, with the states that valid selected.

    Args:
        config: what to train.
        variant: key of `VARIANTS`.
        seed: one of the seeds.
        folder: gets TensorBoard files while it runs, and `result.json` at its end.
        report: called with a line per epoch.

    Raises:
        DivergedError: somebody's numbers are not finite.
    """
    started = time.perf_counter()
    graph, pretraining = load_graph(config.dataset), config.pretraining_of(seed)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    teacher = make_teacher(config.teacher, graph, pretraining.rank, generator)
    rows = np.arange(2 * len(graph.triples["train"]))
    said = f"{variant} seed {seed}: "
    with open_epochs(folder) as note:
        trained = cotrain(
            *(graph, teacher, config.teacher, pretraining, config.cotraining_of(variant)),
            *(rows, generator),
            report=(lambda line: report(said + line)) if report else None,
            note=note,
        )
    run: Run = {
        "variant": variant,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "history": trained.history,
        "teacher": _judged(trained.teacher, graph, trained.history, "teacher"),
        "student": _judged(trained.student, graph, trained.history, "student"),
    }
    key = config.key(variant, seed, graph)
    atomic_write(folder / RESULT, json.dumps({"key": key, "run": run}, indent=1).encode())
    return run


def _judged(
    scorer: Scorer, graph: MultimodalGraph, history: Sequence[Mapping[str, Any]], who: str
) -> dict[str, float]:
    """MRR on valid at the end of the budget, at the best epoch, and there on test."""
    curve = [record[who]["valid_mrr"] for record in history]
    return {
        "last_valid": curve[-1],
        "best_valid": max(curve),
        "best_epoch": history[int(np.argmax(curve))]["epoch"],
        "test": evaluate_ranking(scorer, graph, "test")["mrr"],
    }


def _folder(out: Path, variant: str, seed: int) -> Path:
    # Names without what a shell or a file system could stumble over.
    return out / "runs" / ("+".join(VARIANTS[variant]) or "none") / str(seed)


def _run_of(document: Any) -> Run:
    return dict(document["run"])
