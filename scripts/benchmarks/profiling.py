"""Where the time of a student update goes, by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from graphs import MultimodalGraph

from .measuring import Settings, say
from .student import CoTraining, OurEpochs
from .subjects import teacher_store

SHOWN = 12


def _shares(work: Callable[[], object]) -> list[dict[str, Any]]:
    """The operators that take the most time, and their share of all operators' time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work()
    events = sorted(profiler.key_averages(), key=lambda e: e.self_cpu_time_total, reverse=True)
    whole = sum(event.self_cpu_time_total for event in events)
    return [
        {"operator": e.key, "share": e.self_cpu_time_total / whole, "calls": e.count}
        for e in events[:SHOWN]
    ]


def measure(graph: MultimodalGraph, settings: Settings) -> dict[str, Any]:
    """Plain, distilled and co-training updates."""
    store = teacher_store(graph, settings)
    found = {}
    for name, own in (("plain", None), ("distilled", store)):
        ours = OurEpochs(graph, settings, own)
        batches = ours.batches()[: settings.steps]
        ours.step(batches[0])
        say(f"profile: {name}")
        found[name] = _shares(lambda: ours.steps(batches))  # noqa: B023
    loop = CoTraining(graph, settings, store, settings.batch)
    say("profile: co-training")
    found["co-training"] = _shares(loop.epoch)
    return found
