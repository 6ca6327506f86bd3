"""What workers are asked to do by tests; imports nothing that takes them long."""

import os
import signal
from pathlib import Path
from typing import Any


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: Path, answer: Any) -> Any:
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        die()
    return answer


def refuse(what: str) -> None:
    raise ValueError(f"{what} is refused")


def answer(value: Any) -> Any:
    return value


def wait_for_ever(pipe: Path) -> None:
    with pipe.open("w") as file:
        file.write(str(os.getpid()))
    signal.pause()


def alone(lock: Path) -> int:
    """Fails where another one is at work."""
    lock.open("x").close()
    total = sum(range(10**6))
    lock.unlink()
    return total


def setting(name: str) -> tuple[str | None, str]:
    """Of the environment, and the working directory."""
    return os.environ.get(name), str(Path.cwd())
