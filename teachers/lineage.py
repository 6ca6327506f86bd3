"""Teachers of a stream of tasks: each goes on where the one of the task before it ended."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from graphs import MultimodalGraph
from graphs.files import atomic_folder, cache_folder, config_hash, read_manifest, write_manifest
from students.checkpoints import Checkpoints
from students.devices import resolve_device, same_bits
from students.growing import adagrad_sums, inherit
from students.hooks import StepHook
from students.scorer import Scorer
from students.training import Trainer
from teachers.attention import AttentionDistillation, AttentionKeeping
from teachers.cached_store import cached
from teachers.fitting import fit_trainer
from teachers.fused import Fused
from teachers.modulation import Modulator
from teachers.pretraining import (
    PretrainingConfig,
    Report,
    keep,
    load_weights,
    save_weights,
    teacher_key,
    unfinished,
)
from teachers.questioning import build_store
from teachers.registry import fuses, make_teacher
from teachers.store import TeacherStore

FORMAT = 1
_SUMS = "sums.safetensors"
_WEIGHTS = "teacher.safetensors"


@dataclass(frozen=True)
class Descendant:
    """A teacher at the end of a task.

    Attributes:
        scorer: in half precision, as it will be found in a file; it is not trained any further.
        sums: Adagrad's, with which its successor goes on, see `students.growing.adagrad_sums`.
    """

    scorer: Scorer
    sums: dict[str, Tensor]


# Those already open in this process, so that no task trains or reads its ancestors again.
_OPEN: OrderedDict[str, Descendant] = OrderedDict()
_KEPT_OPEN = 16


def lineage_key(
    graphs: Sequence[MultimodalGraph],
    name: str,
    config: PretrainingConfig,
    keeping: AttentionKeeping | None,
) -> str:
    """Hash of everything that decides a teacher at the end of the last of some tasks."""
    key = ""
    for number, graph in enumerate(graphs):
        decisive = {
            "format": FORMAT,
            "teacher": teacher_key(graph, name, config, 1, 0),
            "before": key,
            # The first task has nothing to keep, and other teachers have no gates.
            "keeping": asdict(keeping) if keeping and number and fuses(name) else None,
        }
        key = config_hash(decisive)
    return key


def load_descendant(
    graphs: Sequence[MultimodalGraph],
    name: str,
    config: PretrainingConfig,
    keeping: AttentionKeeping | None = None,
    report: Report | None = None,
) -> Descendant:
    """The teacher at the end of the last of some tasks: the cached one, or trained now.

    Args:
        graphs: what it learned from and what it learns from, task by task; they grow.
        name: teacher, see `teachers.registry`.
        config: pre-training in each task; valid ends it early.
        keeping: attention distillation of fused teachers; None for none.
        report: called with lines while a teacher is being trained.

    Raises:
        ValueError: the cache holds a damaged teacher; the sentence says what to remove.
    """
    key = lineage_key(graphs, name, config, keeping)
    if key not in _OPEN:
        with same_bits(resolve_device(config.device)):
            _OPEN[key] = _find_or_train(key, graphs, name, config, keeping, report)
    _OPEN.move_to_end(key)
    while len(_OPEN) > _KEPT_OPEN:
        _OPEN.popitem(last=False)
    return _OPEN[key]


def _find_or_train(
    key: str,
    graphs: Sequence[MultimodalGraph],
    name: str,
    config: PretrainingConfig,
    keeping: AttentionKeeping | None,
    report: Report | None,
) -> Descendant:
    cache = cache_folder()
    folder = cache / "lineages" / key if cache else None
    if folder and folder.is_dir():
        try:
            read_manifest(folder, key)
            return _read(folder, graphs[-1], name, config)
        except ValueError as error:
            raise ValueError(f"{error}; remove {folder} and it is trained again") from None
    previous = None
    if len(graphs) > 1:
        previous = load_descendant(graphs[:-1], name, config, keeping, report)
    label = f"{name} task {len(graphs)}"
    checkpoints = unfinished(cache, key)
    descendant = train_descendant(
        graphs[-1], name, config, previous, keeping, report, label, checkpoints
    )
    keep(folder, name, checkpoints, lambda place: _write(place, descendant, key, name))
    return descendant


def train_descendant(
    graph: MultimodalGraph,
    name: str,
    config: PretrainingConfig,
    previous: Descendant | None,
    keeping: AttentionKeeping | None = None,
    report: Report | None = None,
    label: str = "teacher",
    checkpoints: Checkpoints | None = None,
) -> Descendant:
    """Train a teacher on a task, from where its predecessor ended; see `load_descendant`."""
    generator = torch.Generator().manual_seed(config.seed)
    scorer = make_teacher(name, graph, config.rank, generator).to(resolve_device(config.device))
    if not list(scorer.parameters()):
        return Descendant(scorer, {})
    hooks: list[StepHook] = []
    if config.modulation is not None and fuses(name):
        hooks.append(Modulator(graph, config.modulation, config.seed))
    trainer = Trainer(scorer, graph, config.of(name), hooks=hooks)
    if previous is not None:
        inherit(trainer, previous.scorer, previous.sums)
        if keeping is not None and isinstance(previous.scorer, Fused):
            hooks.append(AttentionDistillation(previous.scorer, keeping))
    rows = np.arange(2 * len(graph.triples["train"]))
    fitted = fit_trainer(trainer, rows, config, generator, report, label, checkpoints)
    trainer.load_state_dict(fitted)
    sums = adagrad_sums(trainer)
    load_weights(scorer, {name: value.half() for name, value in scorer.state_dict().items()})
    return Descendant(scorer, sums)


def _write(folder: Path, descendant: Descendant, key: str, name: str) -> None:
    with atomic_folder(folder) as temporary:
        save_weights(temporary / _WEIGHTS, descendant.scorer)
        sums = {name: value.contiguous() for name, value in sorted(descendant.sums.items())}
        safetensors.torch.save_file(sums, temporary / _SUMS)
        write_manifest(temporary, key, {"name": name})


def _read(folder: Path, graph: MultimodalGraph, name: str, config: PretrainingConfig) -> Descendant:
    scorer = make_teacher(name, graph, config.rank, torch.Generator())
    scorer.to(resolve_device(config.device))
    try:
        load_weights(scorer, safetensors.torch.load_file(folder / _WEIGHTS))
        return Descendant(scorer, safetensors.torch.load_file(folder / _SUMS))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{folder} does not hold a {name} teacher of this task: {error}"
        ) from error


def lineage_store(
    graphs: Sequence[MultimodalGraph],
    teachers: Sequence[str],
    config: PretrainingConfig,
    keeping: AttentionKeeping | None = None,
    top_k: int | None = 64,
    report: Report | None = None,
) -> TeacherStore:
    """What a task's teachers say of all training queries of its graph; kept in memory for a while.

    Args:
        graphs: see `load_descendant`.
        teachers: names, in the order of the store's teacher axis.
        config: see `load_descendant`.
        keeping: see `load_descendant`.
        top_k: entities listed per teacher; None for exact logits.
        report: called with lines while teachers are being trained.
    """
    keys = [lineage_key(graphs, name, config, keeping) for name in teachers]

    def build() -> TeacherStore:
        models: Mapping[str, list[Scorer]] = {
            name: [load_descendant(graphs, name, config, keeping, report).scorer]
            for name in teachers
        }
        with same_bits(resolve_device(config.device)):
            return build_store(graphs[-1], models, top_k)

    # Every task of every method has one: on disk they would soon be larger than all else.
    key = config_hash({"format": FORMAT, "teachers": keys, "top_k": top_k})
    return cached(key, build, on_disk=False)
