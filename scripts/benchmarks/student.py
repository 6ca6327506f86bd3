"""Epochs of our student, plain, distilled and with PPO in the loop, beside PyKEEN's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from agents.hyperparameters import algorithm_arguments, load_hyperparameters
from agents.registry import AGENTS
from dsom_env.sb3 import SB3VecEnv
from graphs import MultimodalGraph, Queries
from students.batching import shuffled_batches
from students.distillation import DistillationConfig
from students.forward import BLOCK_ELEMENTS
from students.registry import make_student
from students.training import Trainer, TrainingConfig
from teachers.cached_store import keep_open
from teachers.store import TeacherStore

from . import peers
from .measuring import Settings, Target, interleaved, ratio, say, scaled, seconds
from .subjects import TEACHERS, teacher_store

# Reported beside the target's: as many sub-environments as SB3 users run.
FEWER_ENVIRONMENTS = 256
AS_IN_THE_METHOD: dict[str, Any] = {"reward": "improvement", "judged_folds": None, "hide": ()}


def rows_of(queries: Queries) -> int:
    """Rows of logits that a batch needs: equal questions beside each other share one."""
    entities, relations = queries.entities, queries.relations
    new = (entities[1:] != entities[:-1]) | (relations[1:] != relations[:-1])
    return int(new.sum()) + 1


class OurEpochs:
    """A student of ours on its way through the training queries.

    Args:
        graph: what is learned.
        settings: sizes.
        store: what the teachers said; None for hard labels only.
    """

    def __init__(
        self, graph: MultimodalGraph, settings: Settings, store: TeacherStore | None
    ) -> None:
        self.generator = torch.Generator().manual_seed(settings.seed)
        sizes = graph.num_entities, graph.num_relations, settings.rank
        student = make_student("complex", *sizes, self.generator)
        # γ and τ are those of the environment; no N3, which PyKEEN does not have here either.
        distillation = DistillationConfig(gamma=3.0, temperature=2.0)
        self.trainer = Trainer(student, graph, TrainingConfig(0.1, 0.0), distillation)
        self.queries, self.store, self.batch = graph.queries("train"), store, settings.batch

    def batches(self) -> list[np.ndarray]:
        """The batches of an epoch."""
        every = np.arange(len(self.queries))
        return list(shuffled_batches(self.queries, every, self.batch, self.generator))

    def step(self, rows: np.ndarray) -> None:
        """One update."""
        labels = []
        if self.store is not None:
            chosen = torch.ones(len(rows), len(self.store.teachers))
            labels = self.store.opinions(rows).soft_labels(chosen)
        self.trainer.update(self.trainer.forward(self.queries[rows]), labels)

    def steps(self, batches: Sequence[np.ndarray]) -> None:
        """Updates from several batches."""
        for rows in batches:
            self.step(rows)

    def epoch(self) -> float:
        """Seconds of an epoch, the order of its batches included."""
        return seconds(lambda: self.steps(self.batches()))


class Products:
    """The matrix products of an epoch of ours and nothing else, in memory that is there already.

    Args:
        ours: whose batches and rows are taken.
        entities: size of the entity table.
        width: columns of the vectors.
    """

    def __init__(self, ours: OurEpochs, entities: int, width: int) -> None:
        self.rows = [rows_of(ours.queries[batch]) for batch in ours.batches()]
        generator = torch.Generator().manual_seed(0)
        most = max(self.rows)
        self.table = torch.randn(entities, width, generator=generator)
        self.vectors = torch.randn(most, width, generator=generator)
        self.most_at_once = max(BLOCK_ELEMENTS // entities, 1)
        self.scores = torch.empty(min(self.most_at_once, most), entities)
        self.slopes = torch.randn(self.scores.shape, generator=generator)
        self.total, self.back = torch.zeros_like(self.table), torch.empty_like(self.vectors)

    def epoch(self) -> float:
        """Seconds of the products of all batches."""
        return seconds(self._all)

    def _all(self) -> None:
        for rows in self.rows:
            self._batch(rows)

    def _batch(self, rows: int) -> None:
        blocks = -(-rows // self.most_at_once)
        edges = [rows * number // blocks for number in range(blocks + 1)]
        for start, stop in itertools.pairwise(edges):
            size, vectors = stop - start, self.vectors[start:stop]
            torch.mm(vectors, self.table.T, out=self.scores[:size])
            slopes = self.slopes[:size]
            torch.mm(slopes, self.table, out=self.back[start:stop])
            self.total.addmm_(slopes.T, vectors, beta=float(start > 0))


class CoTraining:
    """PPO choosing the teachers of every query while the student learns.

    Driven as `agents.trial` drives it, with the hyperparameters of the zoo; but paid as in the
    method, which asks for a second pass of the student, and judged by the store at hand.

    Args:
        graph: what is learned.
        settings: sizes; an epoch is scaled from `steps` updates.
        store: what the teachers said.
        environments: sub-environments, and queries per update.
    """

    def __init__(
        self, graph: MultimodalGraph, settings: Settings, store: TeacherStore, environments: int
    ) -> None:
        keep_open(store, graph, top_k=settings.top_k)
        parameters = load_hyperparameters("ppo", graph.name)
        env: Any = gym.make_vec(
            "DSoM-v0",
            num_envs=environments,
            dataset=graph,
            teachers=list(TEACHERS),
            rank=settings.rank,
            top_k=settings.top_k,
            regularisation=0.0,
            **(parameters["environment"] | AS_IN_THE_METHOD),
        )
        make: Callable[..., Any] | None = AGENTS["ppo"].learner
        assert make is not None  # noqa: S101 - PPO learns
        self.model = make(
            SB3VecEnv(env),
            horizon=parameters["environment"]["horizon"],
            policy_kwargs=dict(parameters["policy"]),
            seed=settings.seed,
            device="cpu",
            **algorithm_arguments(parameters),
        )
        self.model.set_logger(Logger(None, []))
        rollout = parameters["algorithm"]["n_steps"]
        # As many queries for every number of sub-environments, in whole rollouts.
        steps = settings.steps * settings.batch / environments
        self.steps = max(round(steps / rollout), 1) * rollout
        self.environments, self.rollout = environments, rollout
        self.queries = 2 * len(graph.triples["train"])
        self._learn(rollout)

    def _learn(self, steps: int) -> None:
        total = steps * self.environments
        self.model.learn(total, log_interval=10**9, reset_num_timesteps=False)

    def epoch(self) -> float:
        """Seconds of an epoch, scaled from some rollouts and the policy updates after them."""
        measured = seconds(lambda: self._learn(self.steps))
        return scaled(measured, self.steps * self.environments, self.queries)


def measure(graph: MultimodalGraph, settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    """All epochs, in turns."""
    peers.require()
    store = teacher_store(graph, settings)
    say("student: warming up")
    plain, distilled = OurEpochs(graph, settings, None), OurEpochs(graph, settings, store)
    for ours in (plain, distilled):
        ours.step(ours.batches()[0])
    products = Products(plain, graph.num_entities, 2 * settings.rank)
    loops = {
        count: CoTraining(graph, settings, store, count)
        for count in (settings.batch, FEWER_ENVIRONMENTS)
    }
    theirs = peers.LCWA("ComplEx", graph, settings.rank, settings)
    real = peers.LCWA("DistMult", graph, 2 * settings.rank, settings)
    for peer in (theirs, real):
        say(f"student: PyKEEN warms up, {peer.epoch():.1f} s")
    contenders: dict[str, Callable[[], float]] = {
        "PyKEEN ComplEx": theirs.epoch,
        "plain": plain.epoch,
        "distilled": distilled.epoch,
        f"co-training, {settings.batch} environments": loops[settings.batch].epoch,
        f"co-training, {FEWER_ENVIRONMENTS} environments": loops[FEWER_ENVIRONMENTS].epoch,
        "products alone": products.epoch,
        f"PyKEEN, real product of width {2 * settings.rank}": real.epoch,
    }
    times = interleaved(contenders, settings.repetitions, "student")
    return report(graph, settings, times, sum(products.rows), loops)


def report(
    graph: MultimodalGraph,
    settings: Settings,
    times: dict[str, list[float]],
    our_rows: int,
    loops: dict[int, CoTraining],
) -> tuple[dict[str, Any], list[Target]]:
    """The JSON of the section and its targets, from the seconds per epoch."""
    queries = graph.queries("train")
    keys = graph.query_keys(queries.entities, queries.relations)
    rows = {"ours": our_rows, "PyKEEN": len(np.unique(keys)), "queries": len(queries)}
    pykeen, plain, distilled, many, fewer, products, real = times.values()
    ratios = {
        "plain / PyKEEN ComplEx": ratio(plain, pykeen),
        "distilled / plain": ratio(distilled, plain),
        f"co-training ({settings.batch}) / PyKEEN ComplEx": ratio(many, pykeen),
        f"co-training ({FEWER_ENVIRONMENTS}) / PyKEEN ComplEx": ratio(fewer, pykeen),
        "plain / PyKEEN with a real product of the same width": ratio(plain, real),
        "plain / products alone": ratio(plain, products),
        "distilled / products alone": ratio(distilled, products),
        f"co-training ({settings.batch}) / products alone": ratio(many, products),
    }
    targets = [
        Target("plain epoch / PyKEEN's ComplEx", ratio(plain, pykeen), 0.33, True),
        Target("distilled epoch, four teachers / our plain", ratio(distilled, plain), 1.25, True),
        Target("co-training epoch with PPO / PyKEEN's plain", ratio(many, pykeen), 0.75, True),
    ]
    row_count = {"PyKEEN ComplEx": rows["PyKEEN"], list(times)[-1]: rows["PyKEEN"]}
    section = {
        "graph": graph.name,
        "rows_per_epoch": rows,
        "seconds_per_epoch": times,
        "microseconds_per_row": {
            name: [1e6 * value / row_count.get(name, rows["ours"]) for value in values]
            for name, values in times.items()
        },
        "measured_steps": {str(count): loop.steps for count, loop in loops.items()},
        "note": "co-training epochs are scaled from measured_steps student updates",
        "ratios": ratios,
    }
    return section, targets
