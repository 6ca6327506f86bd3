"""Teachers weighted, per relation, by what each adds to a mixture that predicts best."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from agents.oracles import told_by_strangers
from agents.policies import MaskPolicy, Probe
from dsom_env.classroom import Classroom, Lesson, Weights

# As many further queries pull the weights of a relation towards those of all relations.
SHRINKAGE = 10.0
# In nats per query: how far from the best weights the search may stop.
TOLERANCE = 1e-5
MOST_ITERATIONS = 1000


class Stacked(MaskPolicy):
    """Weights of the teachers per relation and direction: their shares in the best mixture.

    Stacking with the log score (Yao et al. 2018, doi:10.1214/17-BA1091), here per relation: of the
    mixtures `Σ_k w_k p_k` that one which gives the answers of the relation's training queries most
    probability, `p_k` filtered and told by teachers that did not train on the query, as for
    `tabular`. The largest weight becomes 1, so that every query is taught with all its strength. A
    relation with few queries shrinks to the weights of all relations, see `mixture_weights`.

    Probabilities are mixed, whatever the combination: with `log_probs` the weights still say whom
    to hear how much, but are not the ones that are best for that combination.
    """

    preference = "weight"

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Fit the weights of all relations together, and from these those of every relation."""
        count = len(classroom.teachers)
        relations, log_probs = map(
            np.concatenate, zip(*told_by_strangers(classroom, torch.eye(count)), strict=True)
        )
        # A factor common to all teachers changes no weights, and the largest must not vanish.
        likelihoods = np.exp(log_probs - log_probs.max(axis=1, keepdims=True))
        everywhere = mixture_weights(likelihoods, np.full(count, 1.0 / count))
        weights = np.tile(everywhere, (2 * classroom.graph.num_relations, 1))
        for relation in np.unique(relations).tolist():
            weights[relation] = mixture_weights(likelihoods[relations == relation], everywhere)
        largest = weights.max(axis=1, keepdims=True)
        self.by_relation: Weights = (weights / largest).astype(np.float32)

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return self.by_relation[lesson.queries.relations]


def mixture_weights(
    likelihoods: NDArray[np.float64], towards: NDArray[np.float64], pull: float = SHRINKAGE
) -> NDArray[np.float64]:
    """Weights of a mixture, float64 `[teachers]`, that sum to one; by expectation maximisation.

    They maximise `Σ_i log Σ_k w_k p_ik + pull · Σ_k towards_k log w_k`, a concave function: as if
    `pull` further queries had been answered by the teachers in the proportions of `towards`.

    Args:
        likelihoods: `p`, `[queries, teachers]`, not all 0 for any query.
        towards: weights above 0 that sum to one, `[teachers]`.
        pull: above 0.
    """
    weights, total = towards, len(likelihoods) + pull
    for _ in range(MOST_ITERATIONS):
        shares = likelihoods * weights
        answered = (shares / shares.sum(axis=1, keepdims=True)).sum(axis=0)
        improved = (answered + pull * towards) / total
        # The ratio is the slope along each weight, and by concavity bounds what is left to gain.
        left = (improved / weights).max() - 1.0
        weights = improved
        if left < TOLERANCE:
            break
    return weights
