"""Print what gradient modulation does to a fused teacher (docs/mspt.md).

python scripts/modulation.py --dataset emoji --forms none,own,mspt --seeds 5 --out runs/modulation

The same command again resumes: finished teachers are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.command_line import add_settings, parse_names, parse_seeds, run


def main() -> None:
    """Train, and print the table."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from dataclasses import replace

    from agents.machine import cores
    from agents.modulation import ModulatedTeacher, render_modulations, run_modulations
    from dsom_env.config import DSoMConfig
    from graphs.files import atomic_write
    from graphs.naming import unknown
    from teachers.registry import TEACHERS, fuses

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--dataset", default="emoji", help="name or path (default: emoji)")
    command.add_argument("--teacher", default="fused", help="one that fuses (default: fused)")
    command.add_argument(
        "--forms",
        type=parse_names,
        default=("none", "own", "mspt"),
        help="between commas; mspt:0.3 is mspt with α 0.3 (default: none,own,mspt)",
    )
    command.add_argument("--seeds", type=parse_seeds, default=(0, 1, 2), help="count or list")
    add_settings(
        command,
        "--set",
        "teacher_rank, teacher_epochs, … of DSoMConfig",
    )
    command.add_argument("--jobs", type=int, default=cores(), help="processes")
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    command.add_argument("--out", type=Path, required=True, help="folder; the same one resumes")
    arguments = command.parse_args()
    if arguments.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {arguments.jobs}")
    fusing = [name for name in TEACHERS if fuses(name)]
    if arguments.teacher not in fusing:
        raise unknown("--teacher", arguments.teacher, fusing)
    config = DSoMConfig.from_kwargs(**dict(arguments.settings)).pretraining
    runs = [
        ModulatedTeacher(form, arguments.dataset, arguments.teacher, replace(config, seed=seed))
        for form in arguments.forms
        for seed in arguments.seeds
    ]
    results = run_modulations(runs, arguments.out, arguments.jobs, arguments.quiet)
    page = render_modulations(results) + "\n"
    atomic_write(arguments.out / "table.md", page.encode())
    print(page)
    print(f"tensorboard --logdir {arguments.out}")


if __name__ == "__main__":
    run(main)
