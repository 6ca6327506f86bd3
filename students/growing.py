"""A scorer that goes on where another one ended, on a graph that has grown meanwhile.

Entities and relations keep their ids when a graph grows (`graphs.tasks`), so old rows of a table
are found again by whose they are. Rows of what is new keep their fresh initial values.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from students.scorer import Scorer
from students.training import Trainer


def adagrad_sums(trainer: Trainer) -> dict[str, Tensor]:
    """Adagrad's sums of squared gradients by parameter: what an optimiser knows beside weights."""
    state = trainer.optimiser.state
    named = trainer.scorer.named_parameters()
    return {name: state[value]["sum"].detach().clone() for name, value in named}


@torch.no_grad()
def inherit(trainer: Trainer, previous: Scorer, sums: Mapping[str, Tensor] | None = None) -> None:
    """Give a fresh scorer, and its optimiser, what `previous` has learned.

    Old rows of tables are copied to where their entity or relation is now, other parameters as a
    whole. Where a parameter projects features that both scorers have divided by numbers of their
    own (`Scorer.feature_scales`), it is multiplied so that old entities keep their vectors.

    Args:
        trainer: of the fresh scorer, on the graph that has grown; changed in place.
        previous: of the same class and sizes, on the graph as it was.
        sums: of `adagrad_sums`, by parameter of `previous`; None restarts the optimiser, whose
            first steps then are as long as those of a new scorer.

    Raises:
        ValueError: a parameter has changed its shape and nobody says whose its rows are.
    """
    old_values = dict(previous.named_parameters())
    old_owners, new_owners = previous.row_owners(), trainer.scorer.row_owners()
    old_scales, new_scales = previous.feature_scales(), trainer.scorer.feature_scales()
    for name, value in trainer.scorer.named_parameters():
        if name not in old_values:
            raise ValueError(f"{name}: {type(previous).__name__} before has no such parameter")
        old = old_values[name]
        factor = new_scales.get(name, 1.0) / old_scales.get(name, 1.0)
        squares = trainer.optimiser.state[value]["sum"]
        # Gradients with respect to what is `factor` times as large are as much smaller.
        old_squares = None if sums is None else sums[name].to(value) / factor**2
        if name in new_owners:
            kept, source = _matches(new_owners[name], old_owners[name])
            value[kept] = factor * old[source].to(value)
            if old_squares is not None:
                squares[kept] = old_squares[source]
        elif value.shape == old.shape:
            value.copy_(factor * old)
            if old_squares is not None:
                squares.copy_(old_squares)
        else:
            raise ValueError(
                f"{name} was {list(old.shape)} and is {list(value.shape)}: "
                f"row_owners of {type(previous).__name__} must say whose its rows are"
            )


def _matches(new: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of `new`, and rows of `old`, that belong to the same; owners are distinct."""
    order = torch.argsort(old)
    places = torch.searchsorted(old[order], new).clamp_max(max(len(old) - 1, 0))
    if not len(old):
        return new[:0], old[:0]
    rows = order[places]
    found = old[rows] == new
    return found.nonzero()[:, 0], rows[found]
