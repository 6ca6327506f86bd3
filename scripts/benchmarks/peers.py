"""PyKEEN, set up for the same work as our student."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from graphs import MultimodalGraph

from .measuring import Settings, now


def require() -> None:
    """Refuse to go on without PyKEEN.

    Raises:
        ValueError: it is not installed.
    """
    try:
        importlib.import_module("pykeen")
    except ImportError:
        raise ValueError(
            "these sections need PyKEEN, which the extra `test` brings: pip install -e '.[test]'"
        ) from None


def factory(graph: MultimodalGraph) -> Any:
    """The training triples as PyKEEN takes them, inverse triples included."""
    from pykeen.triples import CoreTriplesFactory

    return CoreTriplesFactory(
        mapped_triples=torch.from_numpy(graph.triples["train"].copy()),
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
        create_inverse_triples=True,
    )


def model(name: str, triples: Any, dimension: int, seed: int) -> Any:
    """A PyKEEN model with softmax cross-entropy, without regulariser or constraint."""
    from pykeen.models import ComplEx, ERModel

    common = {"triples_factory": triples, "loss": "CrossEntropyLoss", "random_seed": seed}
    if name == "ComplEx":
        return ComplEx(embedding_dim=dimension, regularizer=None, **common)
    shape = {"shape": dimension}
    return ERModel(
        interaction=_real_product(),
        entity_representations_kwargs=shape,
        relation_representations_kwargs=shape,
        **common,
    )


def _real_product() -> Any:
    """DistMult's score as one matrix product.

    PyKEEN's own DistMult lays `h∘r∘t` out for every query, entity and dimension, 24 GB for a
    batch of 1000 on MKG-W.
    """
    from pykeen.nn.modules import Interaction

    class RealProduct(Interaction):
        def forward(self, h: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.einsum("...d,...d->...", h * r, t)

    return RealProduct()


class LCWA:
    """One PyKEEN model in its 1-vs-all training loop.

    Args:
        name: `ComplEx`, or `DistMult` written as one matrix product.
        graph: what is learned.
        dimension: PyKEEN's `embedding_dim`.
        settings: batch size and seed.
    """

    def __init__(
        self, name: str, graph: MultimodalGraph, dimension: int, settings: Settings
    ) -> None:
        from pykeen.training import LCWATrainingLoop

        self.triples, self.batch, self.epochs = factory(graph), settings.batch, 0
        learner = model(name, self.triples, dimension, settings.seed)
        self.loop = LCWATrainingLoop(
            model=learner,
            triples_factory=self.triples,
            optimizer=torch.optim.Adagrad(learner.get_grad_params(), lr=0.1),
            automatic_memory_optimization=False,
        )

    def epoch(self) -> float:
        """Seconds of an epoch from its first batch on, without what PyKEEN does once per call."""
        from pykeen.training.callbacks import TrainingCallback

        class Clock(TrainingCallback):
            started: float | None = None
            stopped = 0.0

            def pre_batch(self, **kwargs: Any) -> None:
                self.started = self.started or now()

            def post_epoch(self, *args: Any, **kwargs: Any) -> None:
                self.stopped = now()

        clock = Clock()  # type: ignore[no-untyped-call]
        self.loop.train(
            self.triples,
            # Counted from the first call on: asked for one epoch again, PyKEEN does nothing.
            num_epochs=self.epochs + 1,
            continue_training=self.epochs > 0,
            batch_size=self.batch,
            use_tqdm=False,
            pin_memory=False,
            callbacks=clock,
        )
        self.epochs += 1
        assert clock.started is not None  # noqa: S101 - a graph has at least one batch
        return clock.stopped - clock.started
