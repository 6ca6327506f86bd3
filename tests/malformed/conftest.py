"""The error boundary of the command line around one call, and a small trial's files."""

import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.command_line import run
from agents.comparison import ComparisonConfig, compare, trial_folder
from agents.trial import run_trial
from agents.trial_config import TrialConfig
from tests.agents.conftest import SMALL

SECONDS = 2.0
MEGABYTES = 1024

TRIAL = TrialConfig(
    "all", dataset=SMALL, epochs=1, batch=64, environment={"rank": 8, "teacher_rank": 8}
)

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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trial's folder, with the `results.json` of a comparison beside."""
    folder = tmp_path_factory.mktemp("finished")
    config = ComparisonConfig(("all", "none"), (0,), TRIAL)
    for trial in config.trials():
        run_trial(trial, trial_folder(folder, trial))
    compare(config, folder, quiet=True)
    shutil.copytree(trial_folder(folder, TRIAL), folder, dirs_exist_ok=True)
    return folder
