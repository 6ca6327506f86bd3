"""Modality features from files: a matrix over all entities, or rows for some of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graphs.csr import IntArray
from graphs.entity_names import EntityNames
from graphs.files import check_shape, open_npz, read_array, read_npy, refusing
from graphs.graph import Modality
from graphs.literals import read_literals
from graphs.reading import Reading
from graphs.torch_files import check_archive

MODALITY_NAME = re.compile(r"[A-Za-z0-9_-]+")

# Encoders give numbers around one. What is far beyond is a raw count or a broken file.
MOST_MAGNITUDE = 1e6

ENTITY_ARRAYS = ("entities", "entity_ids", "entity_id", "ids", "id")
FEATURE_ARRAYS = ("features", "feats", "feat", "embeddings", "pca128")

# Where features lie and what they are called in the data of MyGO, MoMoK, MMRNS, NATIVE and others.
FOLDER = "modalities"
PLACES = (".", "visual", "features", "embeddings")
WORDS = {
    "image": ("image", "images", "imagedata", "imagenet", "img", "visual", "photos", "flags"),
    "text": ("text", "textual", "txt", "description", "descriptions", "sentences"),
    "numeric": ("numeric", "numerical", "num"),
    "audio": ("audio", "acoustic"),
    "video": ("video",),
}
_NOT_OF_ENTITIES = {"rel", "relation", "relations", "token", "tokens"}


@dataclass(frozen=True)
class FeatureRows:
    """Features as a file has them.

    Attributes:
        features: `[n, width]`, any float type.
        entities: ids or names, one per row; None for a matrix with a row for every entity.
    """

    features: NDArray[Any]
    entities: IntArray | list[str] | None = None


# --- one function per kind of file ---------------------------------------------------------------


def _read_npy(path: Path, num_entities: int) -> FeatureRows:
    return FeatureRows(read_npy(path, "f", (num_entities, None)))


def _read_npz(path: Path, num_entities: int) -> FeatureRows:
    with open_npz(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        entity_array = next((name for name in ENTITY_ARRAYS if name in names), None)
        feature_array = next((name for name in FEATURE_ARRAYS if name in names), FEATURE_ARRAYS[0])
        if entity_array is None:
            if feature_array not in names:
                raise ValueError(f"{path}: expected an array 'entities' and an array 'features'")
            features = read_array(path, archive, feature_array, "f", (None, None))
            if len(features) != num_entities:
                raise ValueError(
                    f"{path}: expected an array 'entities', or one row of {feature_array!r} for "
                    f"each of the {num_entities} entities, got {len(features)} rows"
                )
            return FeatureRows(features)
        entities = read_array(path, archive, entity_array, "iuU", (None,))
        features = read_array(path, archive, feature_array, "f", (len(entities), None))
    if entities.dtype.kind == "U":
        return FeatureRows(features, cast(list[str], entities.tolist()))
    return FeatureRows(features, _ids(path, entities))


def _ids(path: Path, entities: NDArray[Any]) -> IntArray:
    if entities.dtype.kind not in "iu" or entities.ndim != 1:
        raise ValueError(
            f"{path}, array 'entities': expected a list of ids, got {entities.dtype} "
            f"of shape {entities.shape}"
        )
    if entities.dtype == np.uint64 and len(entities) and int(entities.max()) > 2**62:
        raise ValueError(f"{path}, array 'entities': expected ids, got {int(entities.max())}")
    return entities.astype(np.int64)


def _read_safetensors(path: Path, num_entities: int) -> FeatureRows:
    from safetensors import safe_open

    with refusing(str(path)), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    return _from_tensors(path, tensors, num_entities)


def _read_torch(path: Path, num_entities: int) -> FeatureRows:
    import torch

    with refusing(str(path)):
        check_archive(path)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError:  # its many lines tell how to load it without that protection
            raise ValueError("expected tensors, lists and dicts only, which hold no code") from None
    if isinstance(content, torch.Tensor):
        content = {FEATURE_ARRAYS[0]: content}
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path}: expected a tensor, or tensors by entity, got a {kind}")
    return _from_tensors(path, content, num_entities)


def _from_tensors(path: Path, tensors: dict[Any, Any], num_entities: int) -> FeatureRows:
    """`entities` and `features`; a matrix alone; or one vector or matrix per entity."""
    import torch

    def array(name: object, tensor: object) -> NDArray[Any]:
        with refusing(f"{path}, {name!r}"):
            if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
                raise ValueError(f"expected a dense tensor, got a {type(tensor).__name__}")
            # A tensor may repeat one stored number at will, so its shape proves nothing.
            shape = tuple(tensor.shape)
            check_shape(shape, (None,) * len(shape), tensor.element_size(), path.stat().st_size)
            if tensor.is_floating_point():
                tensor = tensor.float()
            return tensor.detach().numpy()

    entity_key = next((name for name in ENTITY_ARRAYS if name in tensors), None)
    feature_key = next((name for name in FEATURE_ARRAYS if name in tensors), None)
    if feature_key is None and len(tensors) == 1:
        only = next(iter(tensors))
        tensor = tensors[only]
        if isinstance(tensor, torch.Tensor) and tensor.ndim == 2 and len(tensor) == num_entities:
            feature_key = only
    if feature_key is None:
        by_entity = {name: array(name, tensor) for name, tensor in tensors.items()}
        return _stack(path, by_entity, num_entities)
    features = array(feature_key, tensors[feature_key])
    if entity_key is None:
        return FeatureRows(features)
    entities = tensors[entity_key]
    if isinstance(entities, list) and all(isinstance(name, str) for name in entities):
        return FeatureRows(features, list(entities))
    if isinstance(entities, list):
        with refusing(f"{path}, {entity_key!r}"):
            entities = torch.tensor(entities)
    return FeatureRows(features, _ids(path, array(entity_key, entities)))


def _stack(path: Path, by_entity: dict[Any, NDArray[Any]], num_entities: int) -> FeatureRows:
    """One row per entity; where a file has several vectors of an entity, their mean."""
    names = list(by_entity)
    if not names or not (
        all(isinstance(name, str) for name in names) or all(type(name) is int for name in names)
    ):
        raise ValueError(f"{path}: expected features by entity, all by name or all by id")
    rows: list[NDArray[np.float32]] = []
    for name, vectors in by_entity.items():
        if vectors.ndim not in (1, 2) or vectors.dtype.kind != "f" or not vectors.size:
            raise ValueError(
                f"{path}, {name!r}: expected a vector or a matrix of float features, "
                f"got {vectors.dtype} of shape {vectors.shape}"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # infinite rows are refused later
            row = vectors.astype(np.float32).reshape(-1, vectors.shape[-1]).mean(axis=0)
        if rows and len(row) != len(rows[0]):
            expected = f"expected {len(rows[0])} columns as before, got {len(row)}"
            raise ValueError(f"{path}, {name!r}: {expected}")
        rows.append(row)
    if isinstance(names[0], str):
        return FeatureRows(np.stack(rows), names)
    with refusing(f"{path}, ids"):
        entities = np.array(names, dtype=np.int64)
    return FeatureRows(np.stack(rows), entities)


def _read_hdf5(path: Path, num_entities: int) -> FeatureRows:
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path}: reading HDF5 needs the package h5py: pip install 'dsom-env[hdf5]'"
        ) from None

    def array(file: Any, name: str) -> NDArray[Any]:
        with refusing(f"{path}, {name!r}"):
            # Other links could lead out of the file.
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise ValueError("expected a dataset of this file, got a link")
            dataset = file[name]
            if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
                raise ValueError("expected a dataset of this file")
            if dataset.dtype.kind not in "fiuOS":
                raise ValueError(f"expected numbers or names, got {dataset.dtype}")
            stored = path.stat().st_size
            check_shape(dataset.shape, (None,) * len(dataset.shape), dataset.dtype.itemsize, stored)
            if h5py.check_string_dtype(dataset.dtype):
                if dataset.ndim != 1:
                    raise ValueError(f"expected a list of names, got shape {dataset.shape}")
                # As objects: an array of text gives every name the room of the longest.
                return cast(NDArray[Any], dataset.asstr()[()])
            return cast(NDArray[Any], dataset[()])

    with refusing(str(path)):
        file = h5py.File(path, "r")
    with file:
        with refusing(str(path)):
            names = sorted(file)
        entity_key = next((name for name in ENTITY_ARRAYS if name in names), None)
        feature_key = next((name for name in FEATURE_ARRAYS if name in names), None)
        if feature_key is None and len(names) == 1:
            alone = array(file, names[0])
            if alone.ndim == 2 and len(alone) == num_entities:
                return FeatureRows(alone)
        if feature_key is None:
            return _stack(path, {name: array(file, name) for name in names}, num_entities)
        features = array(file, feature_key)
        if entity_key is None:
            return FeatureRows(features)
        entities = array(file, entity_key)
    if entities.dtype.kind == "O":
        return FeatureRows(features, cast(list[str], entities.tolist()))
    return FeatureRows(features, _ids(path, entities))


FEATURE_FORMATS: dict[str, Callable[[Path, int], FeatureRows]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
}
"""Readers by the ending of the file's name; each gets the file and the number of entities."""


# --- checked and in order ------------------------------------------------------------------------


def read_modality(path: Path, names: EntityNames, reading: Reading) -> Modality:
    """The features of a file as a modality.

    Entities that the graph does not know are left out with a note. In a matrix with a row for
    every entity, rows of zeros stand for entities that lack the modality.

    Raises:
        ValueError: the file is malformed, names an entity twice, or has features that are not
            finite or beyond `MOST_MAGNITUDE`.
        ModuleNotFoundError: HDF5 without h5py.
    """
    content = FEATURE_FORMATS[path.suffix](path, len(names))
    features = content.features
    if features.ndim != 2 or features.dtype.kind != "f" or not features.shape[1]:
        raise ValueError(
            f"{path}: expected a matrix of float features, got {features.dtype} "
            f"of shape {features.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite below
        features = features.astype(np.float32)
    usable = (np.abs(features) <= MOST_MAGNITUDE).all(axis=1)  # false for NaN too
    if not bool(usable.all()):
        row = int(np.flatnonzero(~usable)[0])
        raise ValueError(
            f"{path}, row {row}: expected finite float32 features of at most {MOST_MAGNITUDE:g}, "
            f"got {_worst(features[row]):g}"
        )
    if content.entities is None:
        if len(features) != len(names):
            raise ValueError(
                f"{path}: expected one row for each of the {len(names)} entities, "
                f"got {len(features)}"
            )
        rows = np.flatnonzero(features.any(axis=1))
        return Modality(rows, np.ascontiguousarray(features[rows]))
    if len(content.entities) != len(features):
        raise ValueError(
            f"{path}: expected one entity per row, got {len(content.entities)} entities "
            f"and {len(features)} rows"
        )
    numbers, rows = sorted_ids(path, content.entities, names, reading)
    return Modality(numbers, features[rows])


def _worst(row: NDArray[np.float32]) -> float:
    strange = row[~np.isfinite(row)]
    return float(strange[0] if len(strange) else row[np.abs(row).argmax()])


def sorted_ids(
    path: Path, entities: IntArray | Sequence[str], names: EntityNames, reading: Reading
) -> tuple[IntArray, IntArray]:
    """The entities' ids in ascending order, and the rows of the file they come from."""
    if isinstance(entities, np.ndarray):
        outside = np.flatnonzero((entities < 0) | (entities >= len(names)))
        if len(outside):
            raise ValueError(
                f"{path}, row {outside[0]}: expected an entity id in [0, {len(names)}), "
                f"got {entities[outside[0]]}"
            )
        numbers = entities
        rows = np.arange(len(numbers))
    else:
        found = (names.find(name) for name in entities)
        numbers = np.array([-1 if i is None else i for i in found], dtype=np.int64)
        strangers = int((numbers < 0).sum())
        if strangers:
            reading.notes.append(
                f"{path}: left out {strangers} of {len(numbers)} entities, which are not entities "
                f"of the graph"
            )
        rows = np.flatnonzero(numbers >= 0)
    rows = rows[np.argsort(numbers[rows], kind="stable")]
    repeated = np.flatnonzero(np.diff(numbers[rows]) == 0)
    if len(repeated):
        first, second = sorted(rows[repeated[0] : repeated[0] + 2].tolist())
        raise ValueError(f"{path}, row {second}: expected another entity than that of row {first}")
    return numbers[rows], rows


# --- where they lie ------------------------------------------------------------------------------


def read_modalities(folder: Path, names: EntityNames, reading: Reading) -> dict[str, Modality]:
    """The modalities of a graph's folder.

    Every file in `modalities/` is one, under the file's name. Files elsewhere, in `PLACES`, are
    known by one of the `WORDS` in their names, and numeric literals by `*NumericalTriples.txt`;
    these become modalities only if there is none of that name yet and they cover at least
    `reading.coverage` of the entities.

    Raises:
        ValueError: a file is malformed, or two files in `modalities/` have one name.
    """
    modalities: dict[str, Modality] = {}
    for path in sorted((folder / FOLDER).glob("*")):
        if path.suffix not in FEATURE_FORMATS:
            continue
        if not MODALITY_NAME.fullmatch(path.stem):
            raise ValueError(f"{path}: expected a name of letters, digits, _ and -")
        if path.stem in modalities:
            raise ValueError(f"{path}: expected one file of features called {path.stem!r}")
        modalities[path.stem] = read_modality(path, names, reading)
    sources: dict[str, Path] = {}
    for name, path in _found_by_name(folder):
        if name in sources:
            reading.notes.append(
                f"{path} is not read, because {sources[name].name} is the modality {name!r}; "
                f"put both into modalities/ to have both"
            )
        elif name not in modalities:
            sources[name] = path
            _add(modalities, name, path, read_modality(path, names, reading), names, reading)
    literals = sorted(
        p for ending in ("", ".xz") for p in folder.glob(f"*NumericalTriples.txt{ending}")
    )
    if literals and "numeric" not in {**modalities, **sources}:
        path = literals[0]
        _add(modalities, "numeric", path, read_literals(path, names), names, reading)
    return dict(sorted(modalities.items()))


def _found_by_name(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for place in PLACES:
        for path in sorted((folder / place).glob("*")):
            words = set(re.split(r"[^a-z0-9]+", path.stem.lower()))
            if path.suffix not in FEATURE_FORMATS or words & _NOT_OF_ENTITIES:
                continue
            names = [name for name, known in WORDS.items() if words & set(known)]
            if len(names) == 1:
                found.append((names[0], path))
    return found


def _add(
    modalities: dict[str, Modality],
    name: str,
    path: Path,
    modality: Modality,
    names: EntityNames,
    reading: Reading,
) -> None:
    count = len(modality.entities)
    if count and count >= reading.coverage * len(names):
        modalities[name] = modality
        return
    reading.notes.append(
        f"{path}: features of {count} of {len(names)} entities ({count / len(names):.2%}) are "
        f"too few for a modality {name!r}, expected {reading.coverage:.2%}; ask for less by the "
        f"option coverage"
    )


def read_thumbnails(
    path: Path, num_entities: int
) -> tuple[IntArray | None, NDArray[np.uint8] | None]:
    """Entity ids and pictures of `thumbnails.npz`, where it exists."""
    if not path.exists():
        return None, None
    with open_npz(path) as archive:
        entities = read_array(path, archive, "entities", "iu", (None,))
        rgb = read_array(path, archive, "rgb", "u", (len(entities), None, None, 3))
    if rgb.dtype != np.uint8:
        raise ValueError(f"{path}, array 'rgb': expected uint8, got {rgb.dtype}")
    names = EntityNames(list(map(str, range(num_entities))))
    numbers, rows = sorted_ids(path, _ids(path, entities), names, Reading(""))
    return numbers, rgb[rows]
