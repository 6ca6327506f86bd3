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
    """Register the environments with Gymnasium; doing so twice changes nothing."""
    modules = {"DSoM-v0": "dsom_env.env", "DSoM-Continual-v0": "dsom_env.continual_env"}
    for name, module in modules.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name, entry_point=f"{module}:make", vector_entry_point=f"{module}:make_vec"
            )


register()
