"""What `teacher_objective` says: by which objective teachers are trained, with what settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphs.naming import unknown

if TYPE_CHECKING:
    from teachers.amid import CotrainingConfig

ALONE, AMID = "cross_entropy", "amid"
OBJECTIVES = (ALONE, AMID)
# Teachers that AMID is for, as in `teachers.cotraining`, whose import would bring torch along.
COTRAINED = ("fused",)


def objective_name(objective: object) -> str:
    """Name of an objective given as such, or as a mapping of settings with a `name`.

    Raises:
        ValueError: something else.
    """
    name = objective.get("name") if isinstance(objective, Mapping) else objective
    if isinstance(objective, Mapping) and name is None:
        raise ValueError(
            f"teacher_objective: settings need a name, as in {{name: {AMID}, student: 0}}, "
            f"got {dict(objective)!r}"
        )
    if name not in OBJECTIVES:
        raise unknown("teacher_objective", name, OBJECTIVES)
    return str(name)


def cotraining_of(objective: object) -> CotrainingConfig | None:
    """Settings of co-training; None for teachers that are trained alone.

    Raises:
        ValueError: unknown setting, or a bad value.
    """
    settings = dict(objective) if isinstance(objective, Mapping) else {}
    settings.pop("name", None)
    if objective_name(objective) == ALONE:
        if settings:
            raise ValueError(f"teacher_objective: {ALONE} has no settings, got {settings!r}")
        return None
    # Imports torch, which constructing the default environment must not.
    from teachers.amid import CotrainingConfig

    valid = [field.name for field in dataclasses.fields(CotrainingConfig)]
    for name in settings:
        if name not in valid:
            raise unknown("teacher_objective", name, valid)
    try:
        return CotrainingConfig(**settings)
    except ValueError as error:
        raise ValueError(f"teacher_objective: {error}") from None


def information_columns(
    objective: object, teachers: tuple[str, ...], modalities: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of the columns that co-trained teachers add to the observation, in order.

    Args:
        objective: as in `DSoMConfig`.
        teachers: names.
        modalities: of the graph, sorted.
    """
    if objective_name(objective) == ALONE:
        return ()
    return tuple(
        f"{teacher}_information_{other}"
        for teacher in teachers
        if teacher in COTRAINED
        for other in ("student", *modalities)
    )
