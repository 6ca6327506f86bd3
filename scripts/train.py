"""Train one agent and its student.

python scripts/train.py --agent ppo --dataset emoji --seed 0 --epochs 20 --out runs/ppo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.command_line import (
    add_environment_arguments,
    add_variants_argument,
    run,
    trial_arguments,
)


def main() -> None:
    """Train, and print what came out."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    import torch
    from tqdm import tqdm

    from agents.trial import finished_trial, run_trial
    from agents.trial_config import TrialConfig
    from agents.variants import changes_of, check_trial, read_variants

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--agent", required=True, help="name in the zoo, see compare.py --help")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", type=Path, required=True, help="folder of the results")
    command.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    add_environment_arguments(command)
    add_variants_argument(command)
    arguments = command.parse_args()
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {arguments.threads}")
        torch.set_num_threads(arguments.threads)
    source = str(arguments.variants)
    variants = read_variants(arguments.variants) if arguments.variants else {}
    changes = changes_of(arguments.agent, variants, source)
    config = TrialConfig(
        arguments.agent, arguments.seed, **trial_arguments(arguments), changes=changes
    )
    check_trial(config, source)
    result = finished_trial(arguments.out, config)
    if result is None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with tqdm(total=config.epochs, unit="epoch") as bar:

            def show(epoch: int, mrr: float) -> None:
                bar.update(epoch - bar.n)
                bar.set_postfix_str(f"valid MRR {mrr:.4f}")

            result = run_trial(config, arguments.out, show)
    print(f"{config.agent} seed {config.seed}: best epoch {result['best_epoch']} (by valid MRR)")
    for split in ("valid", "test"):
        figures = "  ".join(f"{k} {result[split][k]:.4f}" for k in ("mrr", "hits@1", "hits@10"))
        print(f"{split:>6}  {figures}")
    shares = "  ".join(f"{name} {share:.2f}" for name, share in result["mean_mask"].items())
    print(f"taught by  {shares}")
    print(f"tensorboard --logdir {arguments.out / 'tensorboard'}")


if __name__ == "__main__":
    run(main)
