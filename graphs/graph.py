"""The multimodal knowledge graph: id triples per split, labels, and features per modality."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs.csr import CSR, IntArray, KeyedLists

SPLITS = ("train", "valid", "test")


class GraphWarning(UserWarning):
    """A graph that can be used, but whose results need a caveat."""


@dataclass(frozen=True)
class Modality:
    """What one modality says about the entities that have it.

    Attributes:
        entities: int64 `[n]`, ascending distinct entity ids. Entities that are not listed are
            *known* to lack the modality; nobody may read a zero vector in their place.
        features: float32 `[n, width]`, row `i` belongs to `entities[i]`.
    """

    entities: IntArray
    features: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse rows that do not line up, repeated entities and non-finite features."""
        if self.features.ndim != 2 or len(self.entities) != len(self.features):
            raise ValueError(
                f"a modality needs one feature row per entity: got {len(self.entities)} entities "
                f"and features of shape {self.features.shape}"
            )
        if len(self.entities) > 1 and bool((np.diff(self.entities) <= 0).any()):
            raise ValueError("the entities of a modality must be distinct and ascending")
        if not bool(np.isfinite(self.features).all()):
            row = int(np.flatnonzero(~np.isfinite(self.features).all(axis=1))[0])
            raise ValueError(f"feature row {row} holds NaN or infinite values")

    @property
    def width(self) -> int:
        """Number of feature columns."""
        return int(self.features.shape[1])

    def presence(self, num_entities: int) -> NDArray[np.bool_]:
        """Boolean `[num_entities]`: which entities have the modality."""
        mask = np.zeros(num_entities, dtype=np.bool_)
        mask[self.entities] = True
        return mask


@dataclass(frozen=True)
class Queries:
    """Queries `(entity, relation) → answer`; two for every triple, one in each direction.

    Attributes:
        entities: int64 `[n]`.
        relations: int64 `[n]`; ids `≥ R` are the reciprocal relations, `r + R` asks for heads.
        answers: int64 `[n]`.
    """

    entities: IntArray
    relations: IntArray
    answers: IntArray

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.entities)

    def __getitem__(self, rows: IntArray | slice | NDArray[np.bool_]) -> Queries:
        """The queries at `rows`."""
        return Queries(self.entities[rows], self.relations[rows], self.answers[rows])


@dataclass(frozen=True)
class MultimodalGraph:
    """A knowledge graph whose entities also have pictures, text or other features.

    Attributes:
        name: what the graph is called in logs and results.
        triples: int64 `[n, 3]` (head, relation, tail) for each of `train`, `valid`, `test`.
        entity_labels: one readable label per entity id.
        relation_labels: one readable label per relation id.
        entity_texts: one description per entity id, None where there is none; or None.
        modalities: features by modality name (`text`, `image`, ...).
        thumbnails: uint8 `[n, height, width, 3]` pictures for `thumbnail_entities`, to render.
        thumbnail_entities: int64 `[n]`, ascending entity ids of the thumbnails.
        metadata: whatever else the source says of itself (licence, attribution, ...), JSON types.
        planted_mask: boolean `[2R, modalities in sorted order]` on planted graphs only: which
            modality is competent on which (reciprocal) relation.
    """

    name: str
    triples: Mapping[str, IntArray]
    entity_labels: tuple[str, ...]
    relation_labels: tuple[str, ...]
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    thumbnails: NDArray[np.uint8] | None = None
    thumbnail_entities: IntArray | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    planted_mask: NDArray[np.bool_] | None = None
    entity_texts: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse missing splits, malformed triples and ids out of range."""
        for split in SPLITS:
            if split not in self.triples:
                raise ValueError(f"graph {self.name!r} has no {split!r} triples")
            triples = self.triples[split]
            if triples.ndim != 2 or triples.shape[1] != 3 or triples.dtype != np.int64:
                raise ValueError(
                    f"graph {self.name!r}: {split} triples must be int64 [n, 3], "
                    f"got {triples.dtype} {triples.shape}"
                )
            bounds = (self.num_entities, self.num_relations, self.num_entities)
            if len(triples) and (triples.min() < 0 or bool((triples >= bounds).any())):
                row = int(np.flatnonzero((triples < 0).any(1) | (triples >= bounds).any(1))[0])
                raise ValueError(
                    f"graph {self.name!r}: {split} triple {row} is {triples[row].tolist()}, "
                    f"but ids must lie in [0, {self.num_entities}) and [0, {self.num_relations})"
                )
        if self.entity_texts is not None and len(self.entity_texts) != self.num_entities:
            raise ValueError(
                f"graph {self.name!r}: expected {self.num_entities} entity_texts, "
                f"got {len(self.entity_texts)}"
            )
        if not len(self.triples["train"]):
            raise ValueError(f"graph {self.name!r} has no training triples")
        for name, modality in self.modalities.items():
            if len(modality.entities) and int(modality.entities[-1]) >= self.num_entities:
                raise ValueError(
                    f"graph {self.name!r}: modality {name!r} speaks of entity "
                    f"{int(modality.entities[-1])}, but there are {self.num_entities} entities"
                )

    @property
    def num_entities(self) -> int:
        """Number of entities `E`."""
        return len(self.entity_labels)

    @property
    def num_relations(self) -> int:
        """Number of relations `R`, reciprocals not counted."""
        return len(self.relation_labels)

    def relation_label(self, relation: int) -> str:
        """Label of a relation id in `[0, 2R)`; reciprocals read `label⁻¹`."""
        if relation < self.num_relations:
            return self.relation_labels[relation]
        return self.relation_labels[relation - self.num_relations] + "⁻¹"

    def queries(self, split: str) -> Queries:
        """Both directions of every triple of `split`: first all tails, then all heads asked."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        heads, relations, tails = self.triples[split].T
        return Queries(
            np.concatenate([heads, tails]),
            np.concatenate([relations, relations + self.num_relations]),
            np.concatenate([tails, heads]),
        )

    def query_keys(self, entities: IntArray, relations: IntArray) -> IntArray:
        """One integer per query `(entity, relation)`: the key of the answer lists below."""
        return entities * (2 * self.num_relations) + relations

    def _answers(self, splits: tuple[str, ...]) -> KeyedLists:
        parts = [self.queries(split) for split in splits]
        entities = np.concatenate([part.entities for part in parts])
        relations = np.concatenate([part.relations for part in parts])
        answers = np.concatenate([part.answers for part in parts])
        keys = self.query_keys(entities, relations)
        return KeyedLists.from_pairs(keys, answers)

    @cached_property
    def known_answers(self) -> KeyedLists:
        """Answers of every query over all splits, by `query_keys`."""
        return self._answers(SPLITS)

    @cached_property
    def train_answers(self) -> KeyedLists:
        """Answers of every query in training triples only, by `query_keys`."""
        return self._answers(("train",))

    @cached_property
    def train_valid_answers(self) -> KeyedLists:
        """Answers of every query in training and validation triples, by `query_keys`."""
        return self._answers(("train", "valid"))

    def evaluation_filter(self, split: str) -> KeyedLists:
        """Answers that a filtered rank on `split` leaves out.

        Ranks on `valid` are filtered by train and valid only, so that nothing but the final
        evaluation ever reads a test triple.
        """
        if split == "train":
            return self.train_answers
        return self.train_valid_answers if split == "valid" else self.known_answers

    @cached_property
    def neighbors(self) -> CSR:
        """Training neighbors of each entity by any relation, in both directions."""
        queries = self.queries("train")
        return CSR.from_pairs(queries.entities, queries.answers, self.num_entities)

    @cached_property
    def degrees(self) -> IntArray:
        """Number of training triples that touch each entity, int64 `[E]`."""
        return np.bincount(self.queries("train").entities, minlength=self.num_entities)

    @cached_property
    def relation_counts(self) -> IntArray:
        """Number of training queries of each relation, int64 `[2R]`."""
        return np.bincount(self.queries("train").relations, minlength=2 * self.num_relations)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any triple or feature."""
        digest = hashlib.sha256(repr((self.num_entities, self.num_relations)).encode())
        for split in SPLITS:
            digest.update(np.ascontiguousarray(self.triples[split]).tobytes())
        for name, modality in sorted(self.modalities.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(modality.entities).tobytes())
            digest.update(np.ascontiguousarray(modality.features).tobytes())
        return digest.hexdigest()[:16]

    def triple_keys(self, triples: IntArray) -> IntArray:
        """One integer for each of the `triples` `[n, 3]`: equal keys are equal triples."""
        heads, relations, tails = triples.T
        keys: IntArray = (heads * self.num_relations + relations) * self.num_entities + tails
        return keys

    def split_overlaps(self) -> dict[str, int]:
        """How many distinct triples each pair of splits shares, e.g. `{"train/valid": 0, ...}`."""
        keys = {split: np.unique(self.triple_keys(self.triples[split])) for split in SPLITS}
        pairs = (("train", "valid"), ("train", "test"), ("valid", "test"))
        return {
            f"{a}/{b}": len(np.intersect1d(keys[a], keys[b], assume_unique=True)) for a, b in pairs
        }
