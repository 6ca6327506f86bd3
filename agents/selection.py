"""Who was chosen, for what, and when: the masks (or weights) that taught a student, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs import MultimodalGraph, Queries
from graphs.csr import IntArray
from graphs.true_masks import true_masks
from students.snapshots import Snapshot

Weights = NDArray[np.float32]
DEGREE_BINS = 5
# Above this weight a teacher belongs to the mask of a query that is taught with weights.
CHOSEN = 0.5
# Of more teachers than a handful there are too many masks to write all of them down.
MOST_MASKS = 32


class Tally:
    """How many queries of each group were taught, and by whom how much.

    Args:
        groups: number of groups.
        teachers: number of teachers.

    Attributes:
        queries: int64 `[groups]`.
        taught: float64 `[groups, teachers]`, sums of weights: of masks, counts.
    """

    def __init__(self, groups: int, teachers: int) -> None:
        self.queries = np.zeros(groups, dtype=np.int64)
        self.taught = np.zeros((groups, teachers))

    def add(self, groups: IntArray, weights: Weights) -> None:
        """Count queries by their groups, int64 `[n]`, and weights, float32 `[n, teachers]`."""
        size = len(self.queries)
        self.queries += np.bincount(groups, minlength=size)
        for k in range(weights.shape[1]):
            self.taught[:, k] += np.bincount(groups, weights[:, k], minlength=size)

    def snapshot(self) -> Snapshot:
        """The counts, for `restore`."""
        return {"queries": self.queries.copy(), "taught": self.taught.copy()}

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned."""
        self.queries, self.taught = snapshot["queries"].copy(), snapshot["taught"].copy()

    def shares(self) -> NDArray[np.float64]:
        """Share of each group's queries that each teacher taught, `[groups, teachers]`.

        Of queries that were taught with weights it is the mean weight.
        """
        shares: NDArray[np.float64] = self.taught / np.maximum(self.queries, 1)[:, None]
        return shares


def quantile_bins(values: IntArray, count: int) -> IntArray:
    """Upper edges of at most `count` bins that hold about as many of the values each.

    Edges are values that occur, ascending and distinct: a value that is very frequent makes its
    bin larger and the bins fewer. `searchsorted(edges, values)` gives the bins.
    """
    levels = np.arange(1, count + 1) / count
    edges: IntArray = np.unique(np.quantile(values, levels, method="inverted_cdf"))
    return edges


class Selection:
    """Counts the masks that taught: by relation, degree, presence of modality, and epoch.

    Where weights taught, shares are mean weights, and a teacher belongs to the mask of a query if
    its weight is above one half.

    Updates are kept until their epoch is closed and counted then, all at once.

    Args:
        graph: gives degrees, modalities and, where it was planted, the true masks.
        teachers: names, in the order of the masks.
    """

    def __init__(self, graph: MultimodalGraph, teachers: Sequence[str]) -> None:
        self.graph, self.teachers = graph, tuple(teachers)
        # Bins of training *queries*: hubs are asked about more often than others.
        asked = graph.degrees[graph.queries("train").entities]
        self._lowest, self._degrees = int(asked.min()), quantile_bins(asked, DEGREE_BINS)
        self._bins = np.searchsorted(self._degrees, graph.degrees)
        self._presence = {
            name: modality.presence(graph.num_entities).astype(np.int64)
            for name, modality in sorted(graph.modalities.items())
        }
        self.truth = true_masks(graph, self.teachers)
        size = len(self.teachers)
        self.by_relation = Tally(graph.num_relations, size)
        self._by_degree = Tally(len(self._degrees), size)
        self._by_presence = {
            (end, name): Tally(2, size) for end in ("entity", "answer") for name in self._presence
        }
        self._by_epoch: list[Tally] = []
        self._masks: Counter[bytes] = Counter()
        curves = ["empty", "chosen", "entropy"]
        curves += ["wrong_bits", "jaccard_distance"] if self.truth else []
        self.curves: dict[str, list[float]] = {name: [] for name in curves}
        self._waiting: list[tuple[Queries, Weights]] = []
        self._temperings: list[Weights] = []

    def add(self, queries: Queries, weights: Weights, tempering: Weights | None = None) -> None:
        """Note an update.

        Args:
            queries: the taught queries; control rows, whose masks nobody chose, are left out.
            weights: float32 `[queries, teachers]`, from 0 to 1, what taught them.
            tempering: float32 `[queries]`, of their soft labels; None in every update of a run
                where nobody had a say in it.
        """
        self._waiting.append((queries, weights))
        if tempering is not None:
            # Of a query that nobody teaches there is no soft label.
            self._temperings.append(tempering[weights.any(axis=1)])

    def close_epoch(self) -> tuple[Tally, Tally]:
        """Count what waits.

        Returns:
            The epoch's tallies: one group for all its queries, and one per relation, both
            directions together.
        """
        parts = [queries for queries, _ in self._waiting]
        entities, relations, answers = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("entities", "relations", "answers")
        )
        weights = np.concatenate([part for _, part in self._waiting])
        masks = weights > CHOSEN
        self._waiting = []
        size = len(self.teachers)
        whole, by_relation = Tally(1, size), Tally(self.graph.num_relations, size)
        whole.add(np.zeros(len(masks), dtype=np.int64), weights)
        by_relation.add(relations % self.graph.num_relations, weights)
        self._by_epoch.append(whole)
        self.by_relation.queries += by_relation.queries
        self.by_relation.taught += by_relation.taught
        self._by_degree.add(self._bins[entities], weights)
        for (end, name), tally in self._by_presence.items():
            tally.add(self._presence[name][entities if end == "entity" else answers], weights)
        packed, counts = np.unique(np.packbits(masks, axis=1), axis=0, return_counts=True)
        self._masks.update(
            {code.tobytes(): count for code, count in zip(packed, counts.tolist(), strict=True)}
        )
        chances, sizes = counts / counts.sum(), masks.sum(1)
        values = {
            "empty": (sizes == 0).mean(),
            "chosen": sizes.mean(),
            "entropy": (chances * np.log(1 / chances)).sum(),
        }
        if self.truth:
            values["wrong_bits"] = self.truth.wrong_bits(relations, masks).mean()
            values["jaccard_distance"] = self.truth.jaccard_distance(relations, masks).mean()
        values |= self._tempering()
        for name, value in values.items():
            self.curves.setdefault(name, []).append(float(value))
        return whole, by_relation

    def _tempering(self) -> dict[str, float]:
        """Geometric mean of the epoch's temperings, and their spread as a factor around it."""
        if not self._temperings:
            return {}
        logs = np.log(np.concatenate(self._temperings), dtype=np.float64)
        self._temperings = []
        # An epoch in which nobody taught anything.
        logs = logs if len(logs) else np.zeros(1)
        return {"tempering": np.exp(logs.mean()), "tempering_spread": np.exp(logs.std())}

    def _tallies(self) -> list[Tally]:
        return [self.by_relation, self._by_degree, *self._by_presence.values()]

    def snapshot(self) -> Snapshot:
        """Everything counted so far and what waits to be, for `restore`."""
        waiting = [
            (part.entities, part.relations, part.answers, weights)
            for part, weights in self._waiting
        ]
        return {
            "tallies": [tally.snapshot() for tally in self._tallies()],
            "epochs": [tally.snapshot() for tally in self._by_epoch],
            "masks": dict(self._masks),
            "curves": {name: list(values) for name, values in self.curves.items()},
            "waiting": waiting,
            "temperings": list(self._temperings),
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned, of a selection on the same graph."""
        self._by_epoch = [Tally(1, len(self.teachers)) for _ in snapshot["epochs"]]
        parts = [*snapshot["tallies"], *snapshot["epochs"]]
        for tally, part in zip([*self._tallies(), *self._by_epoch], parts, strict=True):
            tally.restore(part)
        self._masks = Counter(snapshot["masks"])
        self.curves = {name: list(values) for name, values in snapshot["curves"].items()}
        self._waiting = [
            (Queries(entities, relations, answers), weights)
            for entities, relations, answers, weights in snapshot["waiting"]
        ]
        self._temperings = list(snapshot["temperings"])

    def mean_mask(self) -> dict[str, float]:
        """Share of the taught queries that each teacher taught, over the whole run."""
        whole = Tally(1, len(self.teachers))
        for epoch in self._by_epoch:
            whole.queries += epoch.queries
            whole.taught += epoch.taught
        return self._named(whole)[0]

    def mask_by_relation(self) -> dict[str, dict[str, float]]:
        """`mean_mask` for each relation, both directions together, by relation label."""
        labels, shares = self.graph.relation_labels, self._named(self.by_relation)
        return {labels[r]: shares[r] for r in np.flatnonzero(self.by_relation.queries).tolist()}

    def report(self) -> dict[str, Any]:
        """The rest, as `selection` of a run in docs/results-format.md has it; JSON types."""
        lows = [self._lowest, *(self._degrees[:-1] + 1).tolist()]
        degrees = zip(lows, self._degrees.tolist(), self._groups(self._by_degree), strict=True)
        presence: dict[str, dict[str, Any]] = {"entity": {}, "answer": {}}
        for (end, name), tally in self._by_presence.items():
            groups = zip(("lacks", "has"), self._groups(tally), strict=True)
            presence[end][name] = {kind: group for kind, group in groups if group["queries"]}
        shares = [self._named(epoch)[0] for epoch in self._by_epoch]
        scored = [self.teachers[k] for k in self.truth.scored] if self.truth else []
        return {
            "by_degree": [
                {"low": low, "high": high, **group}
                for low, high, group in degrees
                if group["queries"]
            ],
            "by_presence": presence,
            "masks": self._mask_shares(),
            "epochs": {
                "shares": {name: [share[name] for share in shares] for name in self.teachers},
                **self.curves,
            },
            **({"scored": scored} if scored else {}),
        }

    def _mask_shares(self) -> list[dict[str, Any]]:
        total = max(sum(self._masks.values()), 1)
        # Equally frequent ones by their bits, not by when they came first.
        ordered = sorted(self._masks.items(), key=lambda item: (-item[1], item[0]))
        found = []
        for code, count in ordered[:MOST_MASKS]:
            bits = np.unpackbits(np.frombuffer(code, dtype=np.uint8), count=len(self.teachers))
            names = [self.teachers[k] for k in np.flatnonzero(bits)]
            found.append({"teachers": names, "share": count / total})
        return found

    def _groups(self, tally: Tally) -> list[dict[str, Any]]:
        named = zip(tally.queries.tolist(), self._named(tally), strict=True)
        return [{"queries": count, "shares": shares} for count, shares in named]

    def _named(self, tally: Tally) -> list[dict[str, float]]:
        """Shares by teacher's name, one dict per group."""
        return [dict(zip(self.teachers, row, strict=True)) for row in tally.shares().tolist()]
