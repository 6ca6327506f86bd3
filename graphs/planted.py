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

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from graphs.csr import IntArray
from graphs.graph import Modality, MultimodalGraph
from graphs.planted_spec import PlantedSpec


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
