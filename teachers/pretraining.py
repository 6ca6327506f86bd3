"""Pre-training teachers once, and finding them again: shipped, cached, or trained now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from graphs import MultimodalGraph
from graphs.files import (
    atomic_folder,
    cache_folder,
    config_hash,
    read_manifest,
    write_manifest,
)
from graphs.plugged_in import plugged_in_code
from students.batching import shuffled_batches
from students.evaluation import evaluate_ranking
from students.scorer import Scorer
from students.training import Trainer, TrainingConfig
from teachers.junior import is_junior, junior_key, load_junior
from teachers.questioning import fold_of_queries
from teachers.registry import TEACHERS, make_teacher

SHIPPED = Path(__file__).parent / "pretrained"
# 2: equal questions are learned from in runs.
FORMAT = 2

_log = logging.getLogger(__name__)

Report = Callable[[str], None]


@dataclass(frozen=True)
class PretrainingConfig:
    """How teachers are trained.

    Attributes:
        rank: complex dimensions.
        learning_rate: of Adagrad.
        regularisation: λ of N3.
        regularisation_of: λ of the teachers that need another one, by name. Vectors that are
            projected from features bear far less of it than free ones (docs/results.md).
        batch_size: queries per update.
        max_epochs: upper bound.
        evaluate_every: epochs between looks at the valid MRR.
        patience: looks without a better valid MRR before training stops.
        seed: of initial values and batch order.
    """

    rank: int = 64
    learning_rate: float = 0.1
    regularisation: float = 0.02
    batch_size: int = 512
    max_epochs: int = 60
    evaluate_every: int = 2
    patience: int = 3
    seed: int = 0
    regularisation_of: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sizes below one."""
        for name in ("rank", "batch_size", "max_epochs", "evaluate_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")

    def of(self, teacher: str) -> TrainingConfig:
        """Optimiser settings of one teacher."""
        return TrainingConfig(
            self.learning_rate, self.regularisation_of.get(teacher, self.regularisation)
        )


def teacher_key(
    graph: MultimodalGraph, name: str, config: PretrainingConfig, folds: int, fold: int
) -> str:
    """Hash of everything that decides a teacher's weights; of code, that of plugged-in teachers."""
    if is_junior(name):
        # Trained elsewhere: how teachers are trained here does not matter.
        return config_hash({"graph": graph.fingerprint, "junior": junior_key(name)})
    settings = asdict(replace(config, regularisation=config.of(name).regularisation))
    del settings["regularisation_of"]  # what others have does not matter
    decisive = {
        "format": FORMAT,
        "graph": graph.fingerprint,
        "teacher": name,
        "config": settings,
        "folds": folds,
        "fold": fold if folds > 1 else 0,
    }
    code = plugged_in_code(TEACHERS[name]) if name in TEACHERS else None
    return config_hash(decisive | {"code": code} if code else decisive)


def pretrain(
    graph: MultimodalGraph,
    name: str,
    config: PretrainingConfig,
    folds: int = 1,
    fold: int = 0,
    report: Report | None = None,
) -> Scorer:
    """Train one teacher, with 1-vs-all cross-entropy, N3 and early stop on valid MRR.

    Args:
        graph: what it learns; test triples are not read.
        name: teacher, see `teachers.registry`.
        config: sizes and patience.
        folds: with more than one, the triples of fold `fold` are withheld (cross-fitting).
        fold: which.
        report: called with a line after each look at valid.

    Returns:
        The teacher at its best look, in half precision: just as it will be found in a file.
    """
    generator = torch.Generator().manual_seed(config.seed)
    scorer = make_teacher(name, graph, config.rank, generator)
    if not list(scorer.parameters()):
        return scorer
    trainer = Trainer(scorer, graph, config.of(name))
    queries = graph.queries("train")
    rows = np.arange(len(queries))
    if folds > 1:
        rows = rows[fold_of_queries(graph, folds) != fold]
    best, best_state, looks = -1.0, scorer.state_dict(), 0
    for epoch in range(1, config.max_epochs + 1):
        for batch in shuffled_batches(queries, rows, config.batch_size, generator):
            loss = trainer.update(trainer.forward(queries[batch])).loss
        if epoch % config.evaluate_every and epoch != config.max_epochs:
            continue
        mrr = evaluate_ranking(trainer.score, graph, "valid")["mrr"]
        if report:
            report(f"{name} fold {fold + 1}/{folds} epoch {epoch} loss {loss:.3f} valid {mrr:.4f}")
        looks = 0 if mrr > best else looks + 1
        if mrr > best:
            best, best_state = mrr, {k: v.clone() for k, v in scorer.state_dict().items()}
        if looks >= config.patience:
            break
    _load_weights(scorer, {key: value.half() for key, value in best_state.items()})
    return scorer


def _load_weights(scorer: Scorer, weights: Mapping[str, Tensor]) -> None:
    scorer.load_state_dict({key: value.float() for key, value in weights.items()})
    scorer.requires_grad_(False)


def _read_teacher(
    path: Path, graph: MultimodalGraph, name: str, config: PretrainingConfig
) -> Scorer:
    # The random initial values are overwritten; the generator only keeps global state untouched.
    scorer = make_teacher(name, graph, config.rank, torch.Generator())
    try:
        _load_weights(scorer, safetensors.torch.load_file(path))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} does not hold a {name} teacher of this graph: {error}") from error
    return scorer


def _write_teacher(folder: Path, scorer: Scorer, key: str, about: Mapping[str, Any]) -> None:
    with atomic_folder(folder) as temporary:
        # Sorted and contiguous, so that the same weights are the same bytes.
        state = {k: v.half().contiguous() for k, v in sorted(scorer.state_dict().items())}
        safetensors.torch.save_file(state, temporary / "teacher.safetensors")
        write_manifest(temporary, key, about)


def load_teacher(
    graph: MultimodalGraph,
    name: str,
    config: PretrainingConfig,
    folds: int = 1,
    fold: int = 0,
    report: Report | None = None,
) -> Scorer:
    """A trained teacher: the one that ships, else the cached one, else trained now and cached.

    A Junior is found where its trial left it.
    """
    if is_junior(name):
        return load_junior(name, graph, folds)
    key = teacher_key(graph, name, config, folds, fold)
    cache = cache_folder()
    for root in (SHIPPED, cache / "teachers" if cache else None):
        if root and (root / key).is_dir():
            try:
                read_manifest(root / key, key)
            except ValueError as error:
                raise ValueError(f"{error}; remove {root / key} and it is trained again") from None
            return _read_teacher(root / key / "teacher.safetensors", graph, name, config)
    scorer = pretrain(graph, name, config, folds, fold, report)
    if cache:
        about = {"graph": graph.name, "name": name}
        try:
            (cache / "teachers").mkdir(exist_ok=True)
            _write_teacher(cache / "teachers" / key, scorer, key, about)
        except OSError as error:
            _log.warning("teacher %s is kept in memory only: %s", name, error)
    return scorer


def load_teachers(
    graph: MultimodalGraph,
    names: Sequence[str],
    config: PretrainingConfig,
    folds: int = 1,
    report: Report | None = None,
) -> dict[str, list[Scorer]]:
    """All folds of the named teachers, in the order of `names`."""
    return {
        name: [load_teacher(graph, name, config, folds, fold, report) for fold in range(folds)]
        for name in names
    }


def ship(graph: MultimodalGraph, names: Sequence[str], config: PretrainingConfig) -> list[Path]:
    """Write the in-sample teachers of `graph` to the folder that the package ships."""
    folders = []
    for name in names:
        key = teacher_key(graph, name, config, 1, 0)
        folder = SHIPPED / key
        if not folder.is_dir():
            scorer = load_teacher(graph, name, config)
            SHIPPED.mkdir(exist_ok=True)
            _write_teacher(folder, scorer, key, {"graph": graph.name, "name": name})
        folders.append(folder)
    return folders
