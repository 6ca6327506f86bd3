"""The programs of scripts/ in this process: what a shell sees, without a new interpreter's seconds.

That they run as programs of their own is for a few tests in test_scripts.py.
"""

import contextlib
import io
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import torch

ROOT = Path(__file__).parents[1]


def program(name: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Exit code and output of a script; what it raises beside `SystemExit` is raised here too.

    Args:
        name: of a file in scripts/.
        arguments: of its command line.
        cwd: folder it is run in.
    """
    path = ROOT / "scripts" / name
    command = [str(path), *map(str, arguments)]
    said, complained = io.StringIO(), io.StringIO()
    threads, code = torch.get_num_threads(), 0
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", command),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            # What bench.py does to the whole process must not reach the tests after it.
            torch.set_num_threads(threads)
            torch.set_flush_denormal(False)
    return subprocess.CompletedProcess(command, code, said.getvalue(), complained.getvalue())
