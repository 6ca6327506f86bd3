"""The state of something that is at work, as JSON and arrays: nothing that loading could execute.

A *snapshot* is made of JSON types, tuples, bytes, deques, numbers and arrays of NumPy, and tensors.
`packed` makes JSON and a dict of arrays of it, `unpacked` the snapshot again, bit for bit.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Snapshot = Any
Arrays = dict[str, NDArray[Any]]

# Nothing that changes while something is at work.
_CONSTANT = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    torch.device,
    torch.dtype,
    np.dtype,
)


class UnrecordableError(TypeError):
    """Something has a state of a kind that no snapshot can hold."""


def packed(snapshot: Snapshot, arrays: Arrays, place: str = "state") -> Any:
    """JSON that `unpacked` understands.

    Args:
        snapshot: see the module.
        arrays: gets the arrays, under names of their own.
        place: what errors call the snapshot.

    Raises:
        UnrecordableError: something else is inside.
    """

    def all_of(values: Sequence[Any] | deque[Any]) -> list[Any]:
        return [packed(value, arrays, f"{place}[{i}]") for i, value in enumerate(values)]

    def kept(kind: str, array: NDArray[Any]) -> dict[str, Any]:
        name = str(len(arrays))
        arrays[name] = array
        return {kind: name}

    if isinstance(snapshot, np.generic | np.ndarray) and snapshot.dtype.kind in "biuf":
        kind = "array" if isinstance(snapshot, np.ndarray) else "number"
        return kept(kind, np.ascontiguousarray(snapshot).reshape(snapshot.shape))
    if isinstance(snapshot, Tensor) and snapshot.layout is torch.strided:
        if snapshot.dtype is torch.bfloat16 or snapshot.is_complex() or snapshot.is_quantized:
            raise UnrecordableError(f"{place}: a tensor of {snapshot.dtype} cannot be recorded")
        return kept("tensor", snapshot.detach().cpu().contiguous().numpy())
    if snapshot is None or type(snapshot) in (bool, int, float, str):
        return snapshot
    if type(snapshot) is list:
        return all_of(snapshot)
    if isinstance(snapshot, tuple):
        return {"tuple": all_of(snapshot)}
    if isinstance(snapshot, deque):
        return {"deque": all_of(snapshot), "most": snapshot.maxlen}
    if isinstance(snapshot, bytes):
        return {"bytes": snapshot.hex()}
    if isinstance(snapshot, dict):
        # As pairs: optimisers number their parameters, and JSON has strings for keys only.
        return {
            "dict": [
                [packed(key, arrays, place), packed(value, arrays, f"{place}.{key}")]
                for key, value in snapshot.items()
            ]
        }
    raise UnrecordableError(f"{place}: {type(snapshot).__name__} cannot be recorded")


def unpacked(content: Any, arrays: Arrays) -> Snapshot:
    """What `packed` was given; named tuples are tuples.

    Raises:
        ValueError: this is not from `packed`, or not with these arrays.
    """
    if isinstance(content, list):
        return [unpacked(value, arrays) for value in content]
    if not isinstance(content, dict):
        return content
    try:
        match content:
            case {"array": name}:
                return arrays[name]
            case {"number": name}:
                return arrays[name][()]
            case {"tensor": name}:
                return torch.from_numpy(arrays[name])
            case {"tuple": values}:
                return tuple(unpacked(value, arrays) for value in values)
            case {"deque": values, "most": most}:
                return deque((unpacked(value, arrays) for value in values), most)
            case {"bytes": text}:
                return bytes.fromhex(text)
            case {"dict": pairs}:
                return {unpacked(k, arrays): unpacked(v, arrays) for k, v in pairs}
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no snapshot: {error}") from None
    raise ValueError(f"this is no snapshot: {sorted(content)}")


def attributes_of(
    thing: object,
    constant: tuple[type, ...] = (),
    kin: tuple[type, ...] = (),
    skipped: Sequence[str] = (),
) -> Snapshot:
    """What `restore_attributes` needs to bring a freshly made equal of `thing` to where it is.

    Generators, modules with the optimisers that hang on them, optimisers, things of their own kind,
    and all that a snapshot holds, are recorded; whatever is of another type is refused, so that
    nothing is forgotten in silence.

    Args:
        thing: whose attributes are looked at.
        constant: further types of what does not change, or is made anew.
        kin: types that have a `snapshot` and `restore` of their own, alone or in a list.
        skipped: names of attributes that do not matter.

    Raises:
        UnrecordableError: an attribute is of another type.
    """
    found: dict[str, Any] = {}
    modules = [value for value in vars(thing).values() if isinstance(value, nn.Module)]
    inner = {id(part) for module in modules for part in module.modules() if part is not module}
    for name, value in vars(thing).items():
        if name in skipped or isinstance(value, (*_CONSTANT, *constant)):
            continue
        if isinstance(value, nn.Module):
            # Algorithms have second names for parts of their policy.
            if id(value) not in inner:
                optimisers = {k: v.state_dict() for k, v in _optimisers(value)}
                weights = dict(value.state_dict())
                found[name] = {"module": {"weights": weights, "optimisers": optimisers}}
        elif isinstance(value, torch.optim.Optimizer):
            found[name] = {"optimiser": value.state_dict()}
        elif isinstance(value, torch.Generator):
            found[name] = {"generator": value.get_state()}
        elif isinstance(value, np.random.Generator):
            found[name] = {"bits": dict(value.bit_generator.state)}
        elif kin and isinstance(value, kin):
            found[name] = {"kin": value.snapshot()}  # type: ignore[attr-defined]
        elif kin and isinstance(value, list) and value and isinstance(value[0], kin):
            found[name] = {"kindred": [one.snapshot() for one in value]}
        else:
            packed(value, {}, f"{type(thing).__name__}.{name}")
            found[name] = {"value": value.detach() if isinstance(value, Tensor) else value}
    return found


@torch.no_grad()
def restore_attributes(thing: object, snapshot: Snapshot) -> None:
    """Take over what `attributes_of` returned; tensors, modules and generators in place.

    What it raises where `thing` is no equal of what was recorded, `Checkpoints.restoring` catches.
    """
    for name, record in snapshot.items():
        ((kind, value),) = record.items()
        present: Any = getattr(thing, name, None)
        match kind:
            case "module":
                present.load_state_dict(value["weights"])
                for place, optimiser in _optimisers(present):
                    optimiser.load_state_dict(value["optimisers"][place])
            case "optimiser":
                present.load_state_dict(value)
            case "generator":
                present.set_state(value)
            case "bits":
                present.bit_generator.state = value
            case "kin":
                present.restore(value)
            case "kindred":
                for one, part in zip(present, value, strict=True):
                    one.restore(part)
            case _:
                setattr(thing, name, _in_place(present, value))


def _in_place(present: Any, value: Any) -> Any:
    """A recorded value in the form of the present one."""
    if isinstance(present, Tensor) and isinstance(value, Tensor) and present.shape == value.shape:
        # An optimiser may hold on to it.
        present.copy_(value)
        return present
    if isinstance(present, tuple) and hasattr(present, "_fields"):
        return type(present)(*value)
    return value


def _optimisers(module: nn.Module) -> Iterator[tuple[str, torch.optim.Optimizer]]:
    """Optimisers that are attributes of a module or its parts, by place."""
    for place, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.optim.Optimizer):
                yield f"{place}.{name}", value
