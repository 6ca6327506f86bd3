"""Your own graph: a folder of triples and features, as it is.

    python examples/own_graph.py

Writes 160 birds that answer each other's calls, with what each sounds like as features: a
folder with `train.tsv`, `valid.tsv`, `test.tsv` (head, relation, tail by name, tabs between) and
`modalities/sound.npz` (arrays `entities` and `features`). Entities that are not listed there are
known to lack the modality; its name becomes a teacher. Then a student learns by itself, and another
one from teachers that hear. Prints what both answer to test queries.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from agents.trial import run_trial
from agents.trial_config import TrialConfig
from graphs import load_graph


def write_birds(folder: Path, birds: int = 160, songs: int = 20, seed: int = 0) -> None:
    """Write a graph: birds of song `k` answer those of another song, and so hearing is knowing."""
    rng = np.random.default_rng(seed)
    song = np.arange(birds) % songs
    names = [f"bird{number}" for number in range(birds)]
    answered = rng.permutation(songs)
    facts = []
    for head in range(birds):
        fitting = np.flatnonzero(song == answered[song[head]])
        facts += [(head, tail) for tail in rng.choice(fitting, 4, replace=False).tolist()]
    rng.shuffle(facts)
    lines = [f"{names[head]}\tanswers\t{names[tail]}" for head, tail in facts]
    tenth = len(lines) // 10
    parts = {"valid": lines[:tenth], "test": lines[tenth : 2 * tenth], "train": lines[2 * tenth :]}
    (folder / "modalities").mkdir(parents=True)
    for split, part in parts.items():
        (folder / f"{split}.tsv").write_text("\n".join(part) + "\n", encoding="utf-8")
    # One bird in eight was never recorded.
    recorded = np.flatnonzero(rng.random(birds) > 1 / 8)
    features = rng.normal(size=(songs, 16))[song] + 0.2 * rng.normal(size=(birds, 16))
    np.savez(
        folder / "modalities" / "sound.npz",
        entities=[names[bird] for bird in recorded],
        features=features[recorded].astype(np.float32),
    )


def main(epochs: int = 12, rank: int = 8, batch: int = 64) -> dict[str, Any]:
    """Write the graph, train two students on it, print and return their results, by agent."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "birds"
        write_birds(folder)
        graph = load_graph(folder)
        heard = len(graph.modalities["sound"].entities)
        print(
            f"{graph.num_entities} entities, {graph.num_relations} relation, {heard} with a sound"
        )
        results = {}
        for agent in ("none", "all"):
            settings = {"rank": rank, "teacher_rank": rank}
            trial = TrialConfig(agent, 0, str(folder), None, epochs, batch, settings)
            results[agent] = run_trial(trial)
    print(f"teachers: {', '.join(results['all']['mean_mask'])}")
    print(f"taught by nobody: test MRR {results['none']['test']['mrr']:.4f}")
    print(f"taught by all:    test MRR {results['all']['test']['mrr']:.4f}")
    return results


if __name__ == "__main__":
    main()
