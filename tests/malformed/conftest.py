"""The error boundary of the command line, around one call."""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.command_line import run

SECONDS = 2.0
MEGABYTES = 1024

Refused = Callable[..., str]


def tree(folder: Path) -> dict[str, int]:
    """Every name below a folder, with its size."""
    return {str(path): path.lstat().st_size for path in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a call as a script would be, and returns the one sentence that it ends with.

    Nothing may be written, two seconds and a gigabyte have to do, and the exit code is 2.
    """

    def check(call: Callable[..., Any], *arguments: Any, seconds: float = SECONDS) -> str:
        before, started = tree(tmp_path), time.process_time()
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(SystemExit) as ended:
            run(lambda: call(*arguments) and None)
        taken = time.process_time() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024
        said = capsys.readouterr().err
        assert ended.value.code == 2, "accepted"
        assert said.startswith("error: ")
        assert said.count("\n") == 1, "one sentence"
        assert len(said) < 2000
        assert tree(tmp_path) == before, "something was written"
        assert taken < seconds
        assert grown < MEGABYTES
        return said

    return check
