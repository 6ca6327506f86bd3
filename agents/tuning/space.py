"""What a study may choose: options and ranges in YAML, in the sections of hyperparameters."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from agents.hyperparameters import SECTIONS, Sections, parse_mapping
from agents.registry import AGENTS
from graphs.naming import shown, unknown
from graphs.numbers import is_number, with_exponents
from graphs.text_files import read_text

# Values are run, shown and written with as many digits.
DIGITS = 4


@dataclass(frozen=True)
class Options:
    """One of several values.

    Attributes:
        values: of any JSON type, distinct.
    """

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        """Whether it is one of them."""
        return value in self.values

    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    samples = ends

    def to_json(self) -> list[Any]:
        """As it is written in YAML."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A number between two others, both included.

    Attributes:
        low: whole for a whole number, as is `high`.
        high: see `low`.
        log: whether its logarithm is what is uniform.
        step: distance of neighboring values; None for every number, or every whole number.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        """Whether it lies inside, on a step."""
        if not is_number(value) or (self.whole and not isinstance(value, int)):
            return False
        number = float(value)  # type: ignore[arg-type]
        steps = (number - self.low) / self.step if self.step else 0.0
        return self.low <= number <= self.high and math.isclose(steps, round(steps), abs_tol=1e-9)

    def ends(self) -> tuple[float, ...]:
        """The lowest and the highest value."""
        return self.low, self.high

    def samples(self) -> tuple[float, ...]:
        """All whole numbers inside; otherwise the ends."""
        if self.whole:
            return tuple(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        return self.ends()

    def rounded(self, value: float) -> float:
        """A value inside with `DIGITS` significant digits; whole numbers as they are."""
        if self.whole:
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def to_json(self) -> dict[str, Any]:
        """As it is written in YAML."""
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


Parameter = Options | Range
# By `section.name`.
Space = dict[str, Parameter]


def parse_space(text: str, source: str) -> Space:
    """A search space from YAML: per section and name a list of options or a range.

    Args:
        text: YAML.
        source: what errors call it.

    Raises:
        ValueError: it is no such YAML.
    """
    document = parse_mapping(text, source, f"with some of {', '.join(SECTIONS)}")
    space: Space = {}
    for section, parameters in document.items():
        if section not in SECTIONS:
            raise unknown(f"{source}, section", section, SECTIONS)
        if not isinstance(parameters, dict):
            raise ValueError(f"{source}: expected names and what to choose from under {section}")
        for name, written in parameters.items():
            space[f"{section}.{name}"] = _parameter(written, f"{source}: {section}.{name}")
    return space


def _parameter(written: object, subject: str) -> Parameter:
    if isinstance(written, list):
        return _options(written, subject)
    if isinstance(written, dict):
        return _range(written, subject)
    raise ValueError(
        f"{subject}: expected a list of options, or a range such as {{low: 1, high: 8}}, "
        f"got {shown(written)}"
    )


def _options(written: list[Any], subject: str) -> Options:
    values = tuple(with_exponents(value) for value in written)
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{subject}: expected options of JSON types, {error}") from None
    if not values or any(value in values[:index] for index, value in enumerate(values)):
        raise ValueError(
            f"{subject}: options must be distinct and at least one, got {shown(written)}"
        )
    return Options(values)


def _range(written: dict[str, Any], subject: str) -> Range:
    for key in written:
        if key not in ("low", "high", "log", "step"):
            raise unknown(f"{subject}, range", key, ("low", "high", "log", "step"))
    values: dict[str, Any] = {key: with_exponents(value) for key, value in written.items()}
    low, high, log = values.get("low"), values.get("high"), values.get("log", False)
    step = values.get("step")
    if not (is_number(low) and is_number(high)) or not low < high:  # type: ignore[operator]
        got = f"{shown(low)} and {shown(high)}"
        raise ValueError(f"{subject}: low must be a number below high, got {got}")
    if not isinstance(log, bool):
        raise ValueError(f"{subject}: log must be true or false, got {shown(log)}")
    if log and (low <= 0 or step is not None):  # type: ignore[operator]
        raise ValueError(f"{subject}: with log, low must be above 0 and there is no step")
    found = Range(low, high, log, step)  # type: ignore[arg-type]
    if step is None:
        return found
    if not is_number(step) or step <= 0 or (found.whole and not isinstance(step, int)):
        kind = "a whole number" if found.whole else "a number"
        raise ValueError(f"{subject}: step must be {kind} above 0, got {shown(step)}")
    if high not in found:
        raise ValueError(f"{subject}: steps of {step} do not lead from {low} to {high}")
    return found


def read_space(agent: str, path: Path | None) -> tuple[Space, str]:
    """The search space in a file, or the agent's own, and what errors call it.

    Agents that do not learn share one, of the soft label.

    Raises:
        ValueError: the file is no search space, or the agent has none of its own.
        OSError: the file cannot be read.
    """
    if path is not None:
        return parse_space(read_text(path), str(path)), str(path)
    spec = AGENTS.get(agent)
    name = f"{agent if spec is not None and spec.learner else 'environment'}.yml"
    shipped = files("agents.hyperparameters").joinpath("spaces", name)
    if not shipped.is_file():
        raise ValueError(f"{agent} has no search space of its own: give one with --space")
    return parse_space(shipped.read_text("utf-8"), f"spaces/{name}"), f"spaces/{name}"


def check_names(space: Space, source: str, valid: Mapping[str, Collection[str]]) -> None:
    """Refuse what is no argument of a section.

    Args:
        space: what was asked for.
        source: what errors call it.
        valid: names by section; a section that is not there has none.
    """
    for key in space:
        section, name = key.split(".", 1)
        if section not in valid:
            raise unknown(f"{source}, section", section, valid)
        if name not in valid[section]:
            raise unknown(f"{source}, {section}", name, valid[section])


def by_section(values: Mapping[str, Any]) -> Sections:
    """Values by `section.name` as values by section and name, empty sections left out."""
    sections: Sections = {}
    for key, value in values.items():
        section, name = key.split(".", 1)
        sections.setdefault(section, {})[name] = value
    return sections


def flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The other way round."""
    return {
        f"{part}.{name}": value for part, names in sections.items() for name, value in names.items()
    }
