"""Pre-training teachers once, and finding them again: shipped, cached, or trained now."""

from __future__ import annotations

import itertools
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
from students.checkpoints import Checkpoints
from students.devices import resolve_device, same_bits
from students.scorer import Scorer
from students.training import Trainer, TrainingConfig
from teachers.amid import CotrainingConfig
from teachers.cotraining import COTRAINED, Note, Record, cotrain
from teachers.fitting import fit_trainer
from teachers.information import reserve
from teachers.junior import is_junior, junior_key, load_junior
from teachers.modulation import Modulation, Modulator
from teachers.questioning import fold_of_queries
from teachers.registry import TEACHERS, fuses, make_teacher

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
        seed: of initial values, batch order and samples.
        sampled: how many entities beside a batch's answers an update is about, drawn anew for each;
            None for all. See `students.sampling`. No part of co-training.
        cotraining: how the teachers of `COTRAINED` are trained together with a student and
            auxiliary models (AMID, docs/amid.md); None trains them alone.
        modulation: how fused teachers hold the dominant modality back; others are as ever.
        device: where they are trained and answer: `auto`, `cpu` or a CUDA device. It decides
            roundings only, so that a teacher is found again by whoever has another.
    """

    rank: int = 64
    learning_rate: float = 0.1
    regularisation: float = 0.02
    batch_size: int = 512
    max_epochs: int = 60
    evaluate_every: int = 2
    patience: int = 3
    seed: int = 0
    sampled: int | None = None
    regularisation_of: Mapping[str, float] = field(default_factory=dict)
    cotraining: CotrainingConfig | None = None
    modulation: Modulation | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse sizes below one."""
        for name in ("rank", "batch_size", "max_epochs", "evaluate_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if self.sampled is not None and self.sampled < 1:
            raise ValueError(f"sampled must be at least 1, got {self.sampled!r}")

    def of(self, teacher: str) -> TrainingConfig:
        """Optimiser settings of one teacher."""
        return TrainingConfig(
            self.learning_rate, self.regularisation_of.get(teacher, self.regularisation)
        )

    def cotraining_of(self, teacher: str) -> CotrainingConfig | None:
        """How one teacher is co-trained; None for a teacher that is trained alone."""
        return self.cotraining if teacher in COTRAINED else None


def teacher_key(
    graph: MultimodalGraph, name: str, config: PretrainingConfig, folds: int, fold: int
) -> str:
    """Hash of everything that decides a teacher's weights; of code, that of plugged-in teachers."""
    if is_junior(name):
        # Trained elsewhere: how teachers are trained here does not matter.
        return config_hash({"graph": graph.fingerprint, "junior": junior_key(name)})
    settings = asdict(replace(config, regularisation=config.of(name).regularisation))
    del settings["regularisation_of"]  # what others have does not matter
    del settings["device"]
    if config.sampled is None:
        # As it was before there were samples: teachers that ship keep their keys.
        del settings["sampled"]
    cotrained = config.cotraining_of(name)
    if cotrained:
        # But what is trained beside it does.
        settings["auxiliary"] = {m: config.of(m).regularisation for m in graph.modalities}
    else:
        del settings["cotraining"]
    if config.modulation is None or cotrained or not fuses(name):
        del settings["modulation"]
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
    note: Note | None = None,
    modulator: Modulator | None = None,
    checkpoints: Checkpoints | None = None,
) -> Scorer:
    """Train one teacher, with 1-vs-all cross-entropy, N3 and early stop on valid MRR.

    A teacher that is co-trained looks at valid after every epoch, and waits for a better one as
    many epochs as the others do.

    Args:
        graph: what it learns; test triples are not read.
        name: teacher, see `teachers.registry`.
        config: sizes and patience.
        folds: with more than one, the triples of fold `fold` are withheld (cross-fitting).
        fold: which.
        report: called with a line after each look at valid.
        note: called with the record of each epoch of a co-trained teacher.
        modulator: of a fused teacher, to be read afterwards; None for one as `config` says.
        checkpoints: where training goes on if it was killed; None begins anew.

    Returns:
        The teacher at its best look, in half precision: just as it will be found in a file.
    """
    generator = torch.Generator().manual_seed(config.seed)
    scorer = make_teacher(name, graph, config.rank, generator).to(resolve_device(config.device))
    if not list(scorer.parameters()):
        return scorer
    rows = np.arange(2 * len(graph.triples["train"]))
    if folds > 1:
        rows = rows[fold_of_queries(graph, folds) != fold]
    said = f"fold {fold + 1}/{folds}"
    cotraining = config.cotraining_of(name)
    if cotraining:
        prefixed = (lambda line: report(f"{said} {line}")) if report else None
        cotrain(
            *(graph, scorer, name, config, cotraining, rows, generator),
            report=prefixed,
            note=note,
            patience=config.patience * config.evaluate_every,
            checkpoints=checkpoints,
        )
        best = scorer.state_dict()
    else:
        if modulator is None and config.modulation is not None and fuses(name):
            modulator = Modulator(graph, config.modulation, config.seed)
        hooks = [modulator] if modulator is not None else []
        trainer = Trainer(scorer, graph, config.of(name), hooks=hooks)
        label = f"{name} {said}"
        state = fit_trainer(trainer, rows, config, generator, report, label, checkpoints)
        best = state["scorer"]
    load_weights(scorer, {key: value.half() for key, value in best.items()})
    return scorer


def load_weights(scorer: Scorer, weights: Mapping[str, Tensor]) -> None:
    """Take over the weights of a file; a teacher that was trained is trained no further."""
    scorer.load_state_dict({key: value.float() for key, value in weights.items()})
    scorer.requires_grad_(False)


def save_weights(path: Path, scorer: Scorer) -> None:
    """Write the weights in half precision."""
    # Sorted and contiguous, so that the same weights are the same bytes.
    state = {k: v.half().contiguous() for k, v in sorted(scorer.state_dict().items())}
    safetensors.torch.save_file(state, path)


def _read_teacher(
    path: Path, graph: MultimodalGraph, name: str, config: PretrainingConfig
) -> Scorer:
    # The random initial values are overwritten; the generator only keeps global state untouched.
    scorer = make_teacher(name, graph, config.rank, torch.Generator())
    if config.cotraining_of(name):
        reserve(scorer, graph)
    scorer.to(resolve_device(config.device))
    try:
        load_weights(scorer, safetensors.torch.load_file(path))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} does not hold a {name} teacher of this graph: {error}") from error
    return scorer


def _write_teacher(folder: Path, scorer: Scorer, key: str, about: Mapping[str, Any]) -> None:
    with atomic_folder(folder) as temporary:
        save_weights(temporary / "teacher.safetensors", scorer)
        write_manifest(temporary, key, about)


def _found(key: str) -> Path | None:
    """The folder of a teacher that ships or is cached."""
    cache = cache_folder()
    for root in (SHIPPED, cache / "teachers" if cache else None):
        if root and (root / key).is_dir():
            return root / key
    return None


def _about(folder: Path, key: str) -> dict[str, Any]:
    """What a teacher's manifest says of it, its files checked."""
    try:
        extra: dict[str, Any] = read_manifest(folder, key)["extra"]
    except ValueError as error:
        raise ValueError(f"{error}; remove {folder} and it is trained again") from None
    return extra


def load_teacher(
    graph: MultimodalGraph,
    name: str,
    config: PretrainingConfig,
    folds: int = 1,
    fold: int = 0,
    report: Report | None = None,
) -> Scorer:
    """A trained teacher: the one that ships, else the cached one, else trained now and cached.

    On a CPU one thread does it all, see `same_bits`: also a teacher that is only read prepares the
    features of its graph. A Junior is found where its trial left it.
    """
    device = resolve_device(config.device)
    if is_junior(name):
        return load_junior(name, graph, folds).to(device)
    with same_bits(device):
        return _find_or_train(graph, name, config, folds, fold, report)


def _find_or_train(
    graph: MultimodalGraph,
    name: str,
    config: PretrainingConfig,
    folds: int,
    fold: int,
    report: Report | None,
) -> Scorer:
    key = teacher_key(graph, name, config, folds, fold)
    folder = _found(key)
    if folder:
        _about(folder, key)
        return _read_teacher(folder / "teacher.safetensors", graph, name, config)
    history: list[Record] = []
    cache = cache_folder()
    checkpoints = unfinished(cache, key)
    scorer = pretrain(
        graph, name, config, folds, fold, report, history.append, checkpoints=checkpoints
    )
    about = {"graph": graph.name, "name": name}
    keep(
        cache / "teachers" / key if cache else None,
        name,
        checkpoints,
        lambda folder: _write_teacher(folder, scorer, key, about | _history(history)),
    )
    return scorer


def unfinished(cache: Path | None, key: str) -> Checkpoints | None:
    """Checkpoints of a teacher in a cache folder; None without one."""
    return Checkpoints(cache / "unfinished" / key, key) if cache else None


def keep(
    folder: Path | None,
    name: str,
    checkpoints: Checkpoints | None,
    write: Callable[[Path], None],
) -> None:
    """Write a teacher that has been trained to the cache, and drop its checkpoints.

    Where that cannot be written, a warning says so, and the checkpoints stay.

    Args:
        folder: of its own, in the cache; None where there is no cache.
        name: for the warning.
        checkpoints: see `unfinished`.
        write: makes the folder that it is given.
    """
    if not (folder and checkpoints):
        return
    try:
        folder.parent.mkdir(exist_ok=True)
        write(folder)
        checkpoints.remove()
    except OSError as error:
        _log.warning("teacher %s is kept in memory only: %s", name, error)


def _history(records: list[Record]) -> dict[str, list[Record]]:
    return {"history": records} if records else {}


def teacher_history(
    graph: MultimodalGraph, name: str, config: PretrainingConfig, folds: int = 1, fold: int = 0
) -> list[Record]:
    """The epochs of a co-trained teacher that ships or is cached; nothing for any other teacher.

    Raises:
        ValueError: the teacher's folder is damaged; the sentence says what to remove.
    """
    key = teacher_key(graph, name, config, folds, fold)
    folder = _found(key)
    history: list[Record] = _about(folder, key).get("history", []) if folder else []
    return history


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


def ship(
    graph: MultimodalGraph, names: Sequence[str], config: PretrainingConfig, folds: int = 1
) -> list[Path]:
    """Write the teachers of `graph`, of every fold, to the folder that the package ships."""
    folders = []
    for name, fold in itertools.product(names, range(folds)):
        key = teacher_key(graph, name, config, folds, fold)
        folder = SHIPPED / key
        if not folder.is_dir():
            scorer = load_teacher(graph, name, config, folds, fold)
            SHIPPED.mkdir(exist_ok=True)
            history = _history(teacher_history(graph, name, config))
            _write_teacher(folder, scorer, key, {"graph": graph.name, "name": name} | history)
        folders.append(folder)
    return folders
