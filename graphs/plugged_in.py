"""The code of what a user plugged in, so that results of its earlier versions are not reused."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from typing import Any

# Not the user's: ours changes with a version, and a base class of theirs is not what is plugged in.
_OTHERS = {
    *("graphs", "students", "teachers", "dsom_env", "agents"),
    *("torch", "numpy", "gymnasium", "stable_baselines3"),
    *sys.stdlib_module_names,
}


def plugged_in_code(thing: Any) -> str | None:
    """Hash of the source of a class or function that does not come from these packages.

    The module's name is left out: a script is `__main__`, and `__mp_main__` in the processes that
    it starts. Base classes of the user's count with the class; what it calls does not.

    Args:
        thing: a class, a function, a `functools.partial` of one, or an object that is called.

    Returns:
        Sixteen hexadecimal digits; None for what belongs to these packages, and for what has no
        source to be read, as in an interactive session.
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    if not inspect.isclass(thing) and not inspect.isroutine(thing):
        thing = type(thing)
    parts = inspect.getmro(thing) if inspect.isclass(thing) else (thing,)
    sources = []
    for part in parts:
        if str(part.__module__).split(".")[0] not in _OTHERS:
            try:
                sources.append(inspect.getsource(part))
            except (OSError, TypeError):
                continue
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()[:16] if sources else None
