"""Graphs whose right masks are known: modalities that tell the truth on some relations only.

Entities are dealt into blocks. The relations of a block run from its domain group to its range
group and follow the codes that a few modalities, the *competent* ones, show of their entities:
`(h, r, t)` may hold only where `code_m(t) = π_rm(code_m(h))` for every competent modality `m`.
The other modalities show features of the same make, but each belongs to some other entity of the
group ("a picture of something else"): a teacher can memorise training triples by them, and what
it says about anything else is false. So the right mask of a query is the set of modalities that
are competent on its relation, and the regret of any other mask can be measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from graphs.csr import IntArray
from graphs.graph import Modality, MultimodalGraph
from graphs.naming import shown, unknown

# Far above every graph that is planted on purpose, and within a gigabyte.
_MOST_NUMBERS = 2**25
_MOST_NOISE = 1e6
_MOST_SEED = 2**63


@dataclass(frozen=True)
class PlantedSpec:
    """Sizes, noise and seed of a planted graph.

    Each part of the graph has a random stream of its own, so that specs which differ only in
    `noise`, `missing` or `label_noise` share codes, rules and all triples that are not noise.

    Attributes:
        entities: number of entities, dealt evenly to the domain and range groups of the blocks.
        relations: number of relations; relation `r` belongs to block `r % blocks`.
        blocks: number of blocks, at most `relations`.
        codes: number of codes per modality; a competent one narrows a group to `1/codes` of it.
        modalities: names, at least one.
        competent_per_block: how many modalities are competent in a block, each with codes of its
            own, so that all of them together are the one right mask. Less than the number of
            modalities, unless there is only one, which then is competent everywhere.
        tails_per_head: how many of the tails that fit are observed for a head and a relation.
        feature_width: columns of the features.
        noise: standard deviation of the features about the centroid of their code, whose own
            coordinates have standard deviation 1.
        missing: fraction of the entities that are known to lack a modality, drawn for each
            modality.
        label_noise: fraction of the triples whose tail is any entity of the range group.
        valid_fraction: fraction of the triples in the validation split.
        test_fraction: fraction of the triples in the test split.
        seed: not negative; the same spec gives the same bits.
    """

    entities: int = 600
    relations: int = 8
    blocks: int = 4
    codes: int = 5
    modalities: tuple[str, ...] = ("text", "image")
    competent_per_block: int = 1
    tails_per_head: int = 6
    feature_width: int = 32
    noise: float = 0.3
    missing: float = 0.0
    label_noise: float = 0.0
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse, by the name of the argument, what cannot be planted."""
        if isinstance(self.modalities, str):
            raise ValueError(f"modalities: expected a list of names, got {self.modalities!r}")
        object.__setattr__(self, "modalities", tuple(self.modalities))  # JSON has lists only
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (isinstance(value, bool) or not isinstance(value, int)):
                raise ValueError(f"{field.name}: expected an integer, got {value!r}")
            if field.type == "float" and (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not math.isfinite(value)
            ):
                raise ValueError(f"{field.name}: expected a finite number, got {value!r}")
            if field.type == "float":
                object.__setattr__(self, field.name, float(value))  # 1 and 1.0 are one spec
        for name in ("entities", "relations", "blocks", "codes", "tails_per_head", "feature_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("noise", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        for name in ("missing", "label_noise", "valid_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected a fraction in [0, 1), got {getattr(self, name)}"
                )
        for name in ("entities", "relations", "blocks", "codes", "tails_per_head", "feature_width"):
            if getattr(self, name) > _MOST_NUMBERS:
                raise ValueError(f"{name}: expected at most {_MOST_NUMBERS}")
        if self.noise > _MOST_NOISE:
            raise ValueError(f"noise: expected at most {_MOST_NOISE:g}, got {self.noise:g}")
        if self.seed >= _MOST_SEED:
            raise ValueError(f"seed: expected less than {_MOST_SEED}")
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction: with test_fraction it leaves no training triples")
        if self.blocks > self.relations:
            raise ValueError(f"blocks: {self.blocks} are more than the {self.relations} relations")
        self._check_modalities()
        self._check_classes()
        self._check_memory()

    def _check_modalities(self) -> None:
        names = self.modalities
        if not names or len(set(names)) < len(names):
            raise ValueError(f"modalities: expected one or more distinct names, got {names!r}")
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(f"modalities: expected letters, digits, _ and -, got {name!r}")
        most = max(1, len(names) - 1)
        if not 1 <= self.competent_per_block <= most:
            raise ValueError(
                f"competent_per_block: expected 1 to {most} with {len(names)} modalities, "
                f"got {self.competent_per_block}"
            )

    def _check_memory(self) -> None:
        """A typing error must not ask for more than a machine has."""
        classes = self.codes**self.competent_per_block
        heads = self.relations * self.entities // (2 * self.blocks)
        for meant, numbers in (
            ("features", self.entities * self.feature_width * len(self.modalities)),
            ("triples", heads * self.tails_per_head),
            ("rules", self.relations * self.codes * len(self.modalities)),
            ("pairs", (self.entities // (2 * self.blocks) // classes) ** 2),
        ):
            if numbers > _MOST_NUMBERS:
                raise ValueError(
                    f"planted: {numbers} numbers of {meant} are more than {_MOST_NUMBERS}; take "
                    "fewer entities, relations or columns"
                )

    def _check_classes(self) -> None:
        classes = self.codes**self.competent_per_block
        smallest = self.entities // (2 * self.blocks) // classes
        if smallest < self.tails_per_head:
            raise ValueError(
                f"tails_per_head: {self.tails_per_head} distinct tails do not fit in classes of "
                f"{smallest} ({self.entities} entities in {2 * self.blocks} groups of {classes} "
                f"classes); take more entities, or fewer blocks, codes or tails_per_head"
            )


# Few triples per head and small classes: what a student cannot know from triples alone, and a
# modality that tells the truth about a head can teach it.
_SPARSE = PlantedSpec(entities=2400, codes=50, tails_per_head=2)

planted_levels: Mapping[str, PlantedSpec] = MappingProxyType(
    {
        "easy": replace(_SPARSE, noise=0.1),
        "medium": replace(_SPARSE, noise=0.5, label_noise=0.05, missing=0.1),
        "hard": replace(_SPARSE, noise=1.0, label_noise=0.15, missing=0.3),
    }
)
"""Specs by difficulty; `dataclasses.replace` them to change the seed or the sizes."""


@dataclass(frozen=True)
class TrueMasks:
    """The right masks of a planted graph, as far as they say anything of given teachers.

    Only teachers that see one modality are right or wrong on a relation. `structure` sees none,
    and `fused` sees the competent and the misleading ones at once: no mask is right or wrong for
    having them, so they are not scored. Nor does the truth know of single entities: where one is
    `missing` the competent modality, its teacher can tell nothing, and is still the right one.

    Attributes:
        scored: int64 `[n]`, positions among the teachers of those that see one modality.
        by_relation: bool `[2R, n]`, which of these are competent on a (reciprocal) relation.
    """

    scored: IntArray
    by_relation: NDArray[np.bool_]

    def wrong_bits(self, relations: IntArray, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of the scored teachers that are chosen and misleading, or competent and left out.

        Args:
            relations: int64 `[queries]`.
            masks: bool `[queries, teachers]`.

        Returns:
            float64 `[queries]`, 0 for the true mask.
        """
        wrong: NDArray[np.float64] = (masks[:, self.scored] != self.by_relation[relations]).mean(1)
        return wrong

    def jaccard_distance(
        self, relations: IntArray, masks: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """One minus the scored teachers in both masks over those in either; 0 where there is none.

        Args:
            relations: int64 `[queries]`.
            masks: bool `[queries, teachers]`.

        Returns:
            float64 `[queries]`.
        """
        chosen, right = masks[:, self.scored], self.by_relation[relations]
        either = (chosen | right).sum(1)
        both = (chosen & right).sum(1)
        return np.where(either > 0, 1.0 - both / np.maximum(either, 1), 0.0)


def true_masks(graph: MultimodalGraph, teachers: Sequence[str]) -> TrueMasks | None:
    """The right masks of `teachers`; None where nothing was planted, or none sees one modality.

    Args:
        graph: any graph.
        teachers: names, in the order of the masks.
    """
    if graph.planted_mask is None:
        return None
    modalities = sorted(graph.modalities)
    scored = [position for position, name in enumerate(teachers) if name in modalities]
    if not scored:
        return None
    columns = [modalities.index(teachers[position]) for position in scored]
    return TrueMasks(np.array(scored, dtype=np.int64), graph.planted_mask[:, columns])


@dataclass(frozen=True)
class _Block:
    """What governs the relations of one block.

    Attributes:
        domain: int64 `[n]` entities that are heads.
        range: int64 `[n]` entities that are tails.
        competent: positions of the competent modalities in sorted order of their names.
    """

    domain: IntArray
    range: IntArray
    competent: tuple[int, ...]


def planted_graph(spec: PlantedSpec | None = None) -> MultimodalGraph:
    """Generate the graph of a spec (the default one without it).

    `metadata` holds what was planted, for tests and oracles: `spec`, `codes` (by modality, one
    per entity), `rules` (by modality, per relation the image of each code, or None where the
    modality is not competent) and `entity_types` (block and group of each entity).
    """
    spec = spec or PlantedSpec()
    names = sorted(spec.modalities)
    sequence = np.random.SeedSequence(spec.seed)
    layout, coding, drawing, corrupting, splitting, showing, noising, hiding = (
        np.random.default_rng(child) for child in sequence.spawn(8)
    )
    blocks = _deal_blocks(spec, layout)
    codes = _deal_codes(spec, blocks, coding)
    rules = np.argsort(coding.random((spec.relations, len(names), spec.codes)), axis=2)
    triples = _draw_triples(spec, blocks, codes, rules, drawing)
    triples = _corrupt(spec, blocks, triples, corrupting)
    mask = np.zeros((2 * spec.relations, len(names)), dtype=np.bool_)
    for relation in range(spec.relations):
        competent = blocks[relation % spec.blocks].competent
        mask[[[relation], [relation + spec.relations]], competent] = True
    shown = _shown_entities(spec, blocks, showing)
    features = _features(spec, blocks, codes, shown, noising)
    modalities = {}
    for position, name in enumerate(names):
        present = _present(spec, hiding)
        modalities[name] = Modality(present, features[position][present])
    types = np.empty(spec.entities, dtype=object)
    for number, block in enumerate(blocks):
        types[block.domain] = f"block{number}-domain"
        types[block.range] = f"block{number}-range"
    return MultimodalGraph(
        name="planted",
        triples=_split(spec, triples, splitting),
        entity_labels=tuple(f"{kind} {entity}" for entity, kind in enumerate(types)),
        relation_labels=tuple(
            f"relation{relation} (block{relation % spec.blocks}: "
            f"{'+'.join(names[m] for m in blocks[relation % spec.blocks].competent)})"
            for relation in range(spec.relations)
        ),
        modalities=modalities,
        metadata={
            "spec": {**asdict(spec), "modalities": list(spec.modalities)},
            "entity_types": types.tolist(),
            "codes": {name: codes[m].tolist() for m, name in enumerate(names)},
            "rules": {
                name: [
                    rules[relation, m].tolist() if mask[relation, m] else None
                    for relation in range(spec.relations)
                ]
                for m, name in enumerate(names)
            },
        },
        planted_mask=mask,
    )


def _deal_blocks(spec: PlantedSpec, rng: np.random.Generator) -> list[_Block]:
    groups = np.array_split(rng.permutation(spec.entities), 2 * spec.blocks)
    order = rng.permutation(len(spec.modalities)).tolist()
    blocks = []
    for number in range(spec.blocks):
        # Dealt round-robin, so that no modality is competent in more than one block more than
        # another: constant masks get no head start.
        first = number * spec.competent_per_block
        competent = [order[(first + i) % len(order)] for i in range(spec.competent_per_block)]
        blocks.append(
            _Block(
                domain=np.sort(groups[2 * number]),
                range=np.sort(groups[2 * number + 1]),
                competent=tuple(sorted(competent)),
            )
        )
    return blocks


def _deal_codes(
    spec: PlantedSpec, blocks: list[_Block], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Codes int64 `[modalities, E]`; all combinations of competent codes are equally frequent."""
    codes = np.empty((len(spec.modalities), spec.entities), dtype=np.int64)
    for block in blocks:
        for group in (block.domain, block.range):
            for modality in range(len(spec.modalities)):
                codes[modality, group] = rng.permutation(np.arange(len(group)) % spec.codes)
            classes = rng.permutation(np.arange(len(group)) % spec.codes ** len(block.competent))
            for power, modality in enumerate(block.competent):
                codes[modality, group] = classes // spec.codes**power % spec.codes
    return codes


def _draw_triples(
    spec: PlantedSpec,
    blocks: list[_Block],
    codes: NDArray[np.int64],
    rules: NDArray[np.int64],
    rng: np.random.Generator,
) -> IntArray:
    """Distinct triples int64 `[n, 3]` that follow the rules of their relations."""
    parts = []
    for relation in range(spec.relations):
        block = blocks[relation % spec.blocks]
        wanted = np.zeros(len(block.domain), dtype=np.int64)
        offered = np.zeros(len(block.range), dtype=np.int64)
        for modality in block.competent:
            images = rules[relation, modality][codes[modality, block.domain]]
            wanted = wanted * spec.codes + images
            offered = offered * spec.codes + codes[modality, block.range]
        for number in range(spec.codes ** len(block.competent)):
            heads = block.domain[wanted == number]
            fitting = block.range[offered == number]
            draws = np.argsort(rng.random((len(heads), len(fitting))), axis=1)
            tails = fitting[draws[:, : spec.tails_per_head]].ravel()
            repeated = np.repeat(heads, spec.tails_per_head)
            parts.append(np.stack([repeated, np.full_like(repeated, relation), tails], axis=1))
    return np.concatenate(parts)


def _corrupt(
    spec: PlantedSpec, blocks: list[_Block], triples: IntArray, rng: np.random.Generator
) -> IntArray:
    """Give a fraction of the triples any new tail of the range group."""
    triples = triples.copy()
    taken = set(map(tuple, triples.tolist()))
    count = round(spec.label_noise * len(triples))
    for row in rng.permutation(len(triples))[:count].tolist():
        head, relation, _ = triples[row].tolist()
        group = blocks[relation % spec.blocks].range
        free = [tail for tail in group.tolist() if (head, relation, tail) not in taken]
        if free:
            triples[row, 2] = free[int(rng.integers(len(free)))]
            taken.add((head, relation, int(triples[row, 2])))
    return triples


def _shown_entities(
    spec: PlantedSpec, blocks: list[_Block], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Whose features each entity gets, int64 `[modalities, E]`: its own where competent."""
    shown = np.tile(np.arange(spec.entities), (len(spec.modalities), 1))
    for block in blocks:
        for modality in range(len(spec.modalities)):
            for group in (block.domain, block.range):
                permuted = rng.permutation(group)
                if modality not in block.competent:
                    shown[modality, group] = permuted
    return shown


def _features(
    spec: PlantedSpec,
    blocks: list[_Block],
    codes: NDArray[np.int64],
    shown: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Features float32 `[modalities, E, width]`."""
    shape = (len(spec.modalities), spec.entities, spec.feature_width)
    features = np.empty(shape, dtype=np.float32)
    for modality in range(len(spec.modalities)):
        own = np.empty(shape[1:])
        for block in blocks:
            for group in (block.domain, block.range):
                centroids = rng.standard_normal((spec.codes, spec.feature_width))
                own[group] = centroids[codes[modality, group]]
        own += spec.noise * rng.standard_normal(own.shape)
        features[modality] = own[shown[modality]]
    return features


def _present(spec: PlantedSpec, rng: np.random.Generator) -> IntArray:
    """Ascending ids of the entities that have a modality."""
    lacking = round(spec.missing * spec.entities)
    return np.sort(rng.permutation(spec.entities)[lacking:])


def _split(spec: PlantedSpec, triples: IntArray, rng: np.random.Generator) -> dict[str, IntArray]:
    """Train, valid and test triples; train shows every entity and relation of the others."""
    shuffled = triples[rng.permutation(len(triples))]
    must_train = np.zeros(len(shuffled), dtype=np.bool_)
    for ids in (shuffled[:, [0, 2]].ravel(), np.repeat(shuffled[:, 1], 2)):
        must_train[np.unique(ids, return_index=True)[1] // 2] = True
    free = np.flatnonzero(~must_train)
    num_valid = round(spec.valid_fraction * len(shuffled))
    num_test = round(spec.test_fraction * len(shuffled))
    if num_valid + num_test > len(free):
        raise ValueError(
            f"valid_fraction: {num_valid + num_test} triples cannot be held out, only {len(free)} "
            f"leave every entity a training triple; take smaller fractions or more tails_per_head"
        )
    held_out = free[: num_valid + num_test]
    train = np.ones(len(shuffled), dtype=np.bool_)
    train[held_out] = False
    return {
        "train": shuffled[train],
        "valid": shuffled[held_out[:num_valid]],
        "test": shuffled[held_out[num_valid:]],
    }


def parse_planted(base: PlantedSpec, options: Mapping[str, str]) -> PlantedSpec:
    """`base` with some fields replaced by values written as text.

    Args:
        base: where every field that is not named comes from.
        options: text by field; names of modalities are joined by `+`.

    Raises:
        ValueError: an unknown field, or a value that does not fit; the sentence names it.
    """
    kinds = {field.name: field.type for field in fields(base)}
    values: dict[str, object] = {}
    for key, text in options.items():
        if key not in kinds:
            raise unknown("planted", key, kinds)
        try:
            if kinds[key] == "int":
                values[key] = int(text)
            elif kinds[key] == "float":
                values[key] = float(text)
            else:
                values[key] = tuple(text.split("+"))
        except ValueError:
            raise ValueError(
                f"{key}: expected a value of type {kinds[key]}, got {shown(text)}"
            ) from None
    return replace(base, **values)  # type: ignore[arg-type]
