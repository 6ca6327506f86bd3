"""DSoM-v0: choose, per triple, which multimodal teachers may teach a unimodal student.

Importing this package registers the environment and computes nothing.
"""

from __future__ import annotations

import gymnasium

from dsom_env.config import DSoMConfig
from graphs import MultimodalGraph, load_graph

__all__ = ["DSoMConfig", "MultimodalGraph", "load_graph", "register"]
__version__ = "0.1.0"


def register() -> None:
    """Register `DSoM-v0` with Gymnasium; doing so twice changes nothing."""
    if "DSoM-v0" not in gymnasium.registry:
        gymnasium.register(
            id="DSoM-v0",
            entry_point="dsom_env.env:make",
            vector_entry_point="dsom_env.env:make_vec",
        )


register()
