"""Sizes, noise and seed of planted graphs (`graphs.planted`), and how they are written as text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

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
