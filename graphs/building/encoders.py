"""Encoders of texts and pictures by name, or a local folder of Hugging Face's."""

from __future__ import annotations

import logging
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from graphs.building.encoding import (
    FeatureArray,
    deterministic_torch,
    encode_images,
    encode_texts,
    reduce_columns,
)
from graphs.building.sources import BuildError
from graphs.entity_names import EntityNames
from graphs.graph import Modality, MultimodalGraph
from graphs.naming import unknown

MOST_TOKENS = 128
MOST_PICTURES = 8  # of one entity; their mean is its feature
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")

_BATCH = 64
_PICTURES_AT_ONCE = 256
_SIDE, _CROP = 256, 224
_NO_WORDS = re.compile(r"/m/.*|[mg]\.0\w+|[QP][0-9]+|[\W\d_]*")

_log = logging.getLogger(__name__)

TextEncoder = Callable[[Sequence[str]], FeatureArray]
ImageEncoder = Callable[[NDArray[np.uint8]], FeatureArray]


def _minilm(texts: Sequence[str]) -> FeatureArray:
    return encode_texts(texts, batch=_BATCH, most_tokens=MOST_TOKENS)


TEXT_ENCODERS: dict[str, TextEncoder] = {"minilm": _minilm}
"""From texts to float32 `[n, width]`. The first is the default."""

IMAGE_ENCODERS: dict[str, ImageEncoder] = {"efficientnet-lite0": encode_images}
"""From uint8 `[n, 224, 224, 3]` to float32 `[n, width]`. The first is the default."""


def text_encoder(name: str) -> TextEncoder:
    """An encoder by name, or the model in a local Hugging Face folder.

    Raises:
        ValueError: neither a name nor a folder.
        BuildError: the folder holds no model that can be read, or transformers is missing.
    """
    if name in TEXT_ENCODERS:
        return TEXT_ENCODERS[name]
    model, tokenizer = _local_model(name, "AutoTokenizer", "text_encoder", TEXT_ENCODERS)
    model = getattr(model, "text_model", model)  # of a model of texts and pictures, this half

    def encode(texts: Sequence[str]) -> FeatureArray:
        rows = []
        with deterministic_torch():
            # One at a time: with padding, a row would depend on its neighbors in the batch.
            for text in texts:
                tokens = tokenizer(
                    text, truncation=True, max_length=MOST_TOKENS, return_tensors="pt"
                )
                states = model(**tokens).last_hidden_state.mean(dim=1)
                rows.append(torch.nn.functional.normalize(states.float(), dim=1).numpy())
        return np.concatenate(rows)

    return encode


def image_encoder(name: str) -> ImageEncoder:
    """An encoder by name, or the model in a local Hugging Face folder.

    Raises:
        ValueError: neither a name nor a folder.
        BuildError: the folder holds no model that can be read, or transformers is missing.
    """
    if name in IMAGE_ENCODERS:
        return IMAGE_ENCODERS[name]
    model, processor = _local_model(name, "AutoImageProcessor", "image_encoder", IMAGE_ENCODERS)
    model = getattr(model, "vision_model", model)

    def encode(images: NDArray[np.uint8]) -> FeatureArray:
        rows = []
        with deterministic_torch():
            for image in images:
                pixels = processor(images=Image.fromarray(image), return_tensors="pt")
                states = model(pixel_values=pixels["pixel_values"]).last_hidden_state
                # Tokens of a transformer, or the maps of a convolutional network.
                means = states.flatten(2).mean(dim=2) if states.ndim == 4 else states.mean(dim=1)
                rows.append(means.float().numpy())
        return np.concatenate(rows)

    return encode


def _local_model(
    name: str, processor: str, argument: str, known: Mapping[str, object]
) -> tuple[Any, Any]:
    if not (Path(name) / "config.json").is_file():
        if Path(name).is_dir():
            raise BuildError(f"{name}: expected a Hugging Face model, with a config.json")
        raise unknown(argument, name, known)
    try:
        import transformers
    except ModuleNotFoundError:
        raise BuildError(
            f"{name}: reading it needs the package transformers: pip install 'dsom-env[encode]'"
        ) from None
    try:
        # Neither the network, nor code of the folder's own, nor pickled weights.
        model = transformers.AutoModel.from_pretrained(
            name, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        prepare = getattr(transformers, processor).from_pretrained(
            name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers raises errors of many kinds
        reason = str(error).strip().split("\n", 1)[0]
        raise BuildError(f"{name}: expected a Hugging Face model: {reason}") from None
    return model.eval(), prepare


def entity_sentences(graph: MultimodalGraph) -> dict[int, str]:
    """What there is to say of each entity: its name, its description, or both.

    Names that hold no words (`/m/05l64`, `Q585`, numbers) say nothing, so an entity with neither
    a name nor a description is left out.
    """
    sentences = {}
    for number, label in enumerate(graph.entity_labels):
        text = graph.entity_texts[number] if graph.entity_texts is not None else None
        name = "" if _NO_WORDS.fullmatch(label) else _readable(label)
        if text and name and not text.lower().startswith(name.lower()):
            sentences[number] = f"{name}: {text}"
        elif text or name:
            sentences[number] = text or name
    return sentences


def _readable(label: str) -> str:
    bare = label.removeprefix("<").removesuffix(">")
    if re.match(r"https?://", bare):
        bare = bare.rsplit("/", 1)[-1]
    return urllib.parse.unquote(bare).replace("_", " ").strip()


def encode_sentences(
    graph: MultimodalGraph, encoder: str, columns: int
) -> tuple[Modality, dict[str, Any]]:
    """A modality of the graph's names and descriptions, and a record of how it was made.

    Raises:
        ValueError: fewer than two entities have one, or all are alike.
        BuildError: see `text_encoder`.
    """
    encode = text_encoder(encoder)
    sentences = entity_sentences(graph)
    _log.info("encoding %d texts of %d entities", len(sentences), graph.num_entities)
    texts = list(sentences.values())
    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    features = encode(list(distinct)) if distinct else np.zeros((0, 1), dtype=np.float32)
    rows = features[[distinct[text] for text in texts]]
    return _modality(np.array(list(sentences)), rows, columns, encoder, "text")


def encode_pictures(
    graph: MultimodalGraph, folder: Path, encoder: str, columns: int
) -> tuple[Modality, dict[str, Any]]:
    """A modality of the pictures in a folder, and a record of how it was made.

    Pictures are `<entity>.<ending>`, or any files in a folder `<entity>/`, of which the first
    `MOST_PICTURES` count; an entity is named by its key or an alias, see `EntityNames`. Pictures
    that cannot be read and those of strangers are left out and counted in the log.

    Raises:
        ValueError: there is no such folder, fewer than two entities have a picture, or all
            pictures are alike.
        BuildError: see `image_encoder`.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of pictures")
    encode = image_encoder(encoder)
    paths = find_pictures(graph, folder)
    pending: list[NDArray[np.uint8]] = []
    owners: list[int] = []
    parts: list[FeatureArray] = []
    unreadable = 0
    for entity, files in paths.items():
        for path in files:
            picture = _open_picture(path)
            if picture is None:
                unreadable += 1
                continue
            pending.append(picture)
            owners.append(entity)
            if len(pending) == _PICTURES_AT_ONCE:
                parts.append(encode(np.stack(pending)))
                pending = []
    if pending:
        parts.append(encode(np.stack(pending)))
    if unreadable:
        _log.warning("%s: left out %d pictures that cannot be read", folder, unreadable)
    _log.info("encoded %d pictures of %d entities", len(owners), len(set(owners)))
    entities, places = np.unique(np.array(owners, dtype=np.int64), return_inverse=True)
    features = np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.float32)
    sums = np.zeros((len(entities), features.shape[1]), dtype=np.float64)
    np.add.at(sums, places, features)
    means = (sums / np.bincount(places, minlength=len(entities))[:, None]).astype(np.float32)
    return _modality(entities, means, columns, encoder, "image")


def find_pictures(graph: MultimodalGraph, folder: Path) -> dict[int, list[Path]]:
    """The files of each entity's pictures, by ascending id."""
    keys = graph.metadata.get("entity_keys", graph.entity_labels)
    names = EntityNames(keys)
    found: dict[int, list[Path]] = {}
    strangers = 0
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_ENDINGS)
            name = path.name
        elif path.suffix.lower() in PICTURE_ENDINGS:
            files, name = [path], path.stem
        else:
            continue
        entity = names.find(name)
        if entity is None:
            entity = names.find(urllib.parse.unquote(name))
        if entity is None:
            strangers += 1
        elif files:
            found[entity] = (found.get(entity, []) + files)[:MOST_PICTURES]
    if strangers:
        _log.warning("%s: left out %d names that are not entities of the graph", folder, strangers)
    return dict(sorted(found.items()))


def _open_picture(path: Path) -> NDArray[np.uint8] | None:
    """uint8 `[224, 224, 3]`: the middle of the picture, on white where it is transparent."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):
                return None
            rgba = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    white = Image.new("RGBA", rgba.size, "white")
    rgb = Image.alpha_composite(white, rgba).convert("RGB")
    scale = _SIDE / min(rgb.size)
    width, height = (max(_SIDE, round(side * scale)) for side in rgb.size)
    rgb = rgb.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - _CROP) // 2, (height - _CROP) // 2
    return np.asarray(rgb.crop((left, top, left + _CROP, top + _CROP)))


def _modality(
    entities: NDArray[np.int64], features: FeatureArray, columns: int, encoder: str, name: str
) -> tuple[Modality, dict[str, Any]]:
    if len(entities) < 2 or bool((features == features[0]).all()):
        raise ValueError(
            f"{name}: expected at least two entities with different features to encode"
        )
    kept = min(columns, features.shape[1], len(entities) - 1)
    reduced, share = reduce_columns(features, kept)
    record = {
        "encoder": Path(encoder).name,  # a path says nothing elsewhere
        "columns_before": features.shape[1],
        "columns": kept,
        "variance_kept": round(share, 4),
    }
    return Modality(entities, reduced.astype(np.float32)), record
