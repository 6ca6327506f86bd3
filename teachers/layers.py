"""Small dense networks whose only source of randomness is the generator that they are given."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Below this root mean square a vector counts as small and is not blown up to unit size: tables
# begin at 1e-3, and the slope of a full normalisation there would fill Adagrad's sums for good.
SMALL = 0.01
_SLOPE = 0.2  # of the leaky rectifier; its Lipschitz constant is 1


def unit_size(vectors: Tensor) -> Tensor:
    """Vectors `[n, width]` with root mean square 1, smaller where it is not well above `SMALL`."""
    return vectors * (vectors.square().mean(dim=1, keepdim=True) + SMALL**2).rsqrt()


class Dense(nn.Module):
    """`x·Wᵀ + b` with normal initial weights of variance `1/inputs`.

    Args:
        inputs: columns of `x`.
        outputs: columns of the result.
        generator: the only source of randomness.
        spectral: whether `W` is divided by its largest singular value, as in Miyato et al. 2018
            (exact in form; by the exact singular value instead of power iteration, because these
            matrices are small), so that no two results are further apart than their inputs.
    """

    def __init__(
        self, inputs: int, outputs: int, generator: torch.Generator, spectral: bool = False
    ) -> None:
        super().__init__()
        weight = torch.randn(outputs, inputs, generator=generator) / math.sqrt(inputs)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.spectral = spectral

    def forward(self, inputs: Tensor) -> Tensor:
        """`[n, inputs]` to `[n, outputs]`."""
        weight: Tensor = self.weight
        if self.spectral:
            weight = weight / largest_singular_value(weight)
        return F.linear(inputs, weight, self.bias)


def largest_singular_value(matrix: Tensor) -> Tensor:
    """Root of the largest eigenvalue of the smaller Gram matrix: half the time of an SVD."""
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    value: Tensor = torch.linalg.eigvalsh(gram)[-1].sqrt()
    return value


class Network(nn.Module):
    """Dense layers with leaky rectifiers between them.

    Args:
        sizes: columns of the input, of every hidden layer, and of the result.
        generator: the only source of randomness.
        spectral: of every layer, see `Dense`; the whole is then 1-Lipschitz.
    """

    def __init__(
        self, sizes: tuple[int, ...], generator: torch.Generator, spectral: bool = False
    ) -> None:
        super().__init__()
        pairs = itertools.pairwise(sizes)
        self.layers = nn.ModuleList(Dense(a, b, generator, spectral) for a, b in pairs)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[n, sizes[0]]` to `[n, sizes[-1]]`."""
        for number, layer in enumerate(self.layers):
            inputs = layer(F.leaky_relu(inputs, _SLOPE) if number else inputs)
        return inputs
