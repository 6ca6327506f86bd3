"""An environment made by a program of its own, from another folder."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import SMALL


def shape_made_elsewhere(name: str, folder: Path, **arguments: object) -> str:
    """Shape of the observation space, as printed; making it must not have brought torch along."""
    keywords = {"dataset": SMALL, **arguments}
    program = (
        "import gymnasium as gym, sys\n"
        f"env = gym.make('dsom_env:{name}', **{keywords!r})\n"
        "assert 'torch' not in sys.modules, 'constructing must stay cheap'\n"
        "print(env.observation_space.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
