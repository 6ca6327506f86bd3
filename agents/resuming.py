"""A trial that has finished is not run again, and one that was killed goes on where it was.

That is agent, student, curves, and all that is random; see docs/resume.md. Checkpoints are written
between two updates of an agent that does not learn, and before a rollout of one that does: there,
Stable-Baselines3 keeps nothing in local variables.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch.utils.tensorboard import SummaryWriter

from agents.recording import open_writer, written_events
from dsom_env.sb3 import SB3VecEnv
from graphs.files import sweep
from graphs.text_files import read_json
from students.checkpoints import Checkpoints
from students.snapshots import (
    Snapshot,
    UnrecordableError,
    attributes_of,
    restore_attributes,
)

FOLDER = "checkpoints"
RESULT = "result.json"
# Rollouts, or episodes of learners with a memory, between two points of an agent's curves.
LOG_INTERVAL = 8
# What does not change, or is made anew: a buffer of rollouts is empty before each of them.
_CONSTANT = (VecEnv, spaces.Space, Logger, BaseBuffer)
_SKIPPED = (
    *(
        "start_time",
        "_num_timesteps_at_start",
        "learning_rate",
        "lr_schedule",
        "clip_range",
        "clip_range_vf",
        "train_freq",
    ),
    *("exploration_schedule", "policy_kwargs", "replay_buffer_kwargs", "rollout_buffer_kwargs"),
    # Second names for parts of the policy, and what is recorded by itself.
    *("batch_norm_stats", "batch_norm_stats_target", "action_noise"),
)

Content = TypeVar("Content")


def finished(folder: Path, key: str, parse: Callable[[Any], Content]) -> Content | None:
    """What `parse` makes of the `result.json` of a run that has ended in `folder`, or None.

    Checkpoints of a process that was killed when it had just written the result are removed.

    Args:
        folder: of the run; need not exist.
        key: hash of everything that decides the run, which the file has under `key`.
        parse: given the document; refuses what it does not expect.

    Raises:
        ValueError: the file is damaged, or of another configuration.
        OSError: it cannot be read.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        content, found = read_json(path, lambda document: (parse(document), document["key"]))
    except ValueError as error:
        raise ValueError(f"{error}; it holds no finished run: remove it to run again") from None
    if found != key:
        raise ValueError(
            f"{path} comes from another configuration than the one asked for, or from other code "
            "of what was plugged in; choose another --out"
        )
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return content


class Resumption:
    """What is on the disk of a trial that was killed, and what goes there of one that runs.

    Args:
        folder: of the trial, for TensorBoard; None writes no curves.
        checkpoints: their folder; None writes none.
        key: hash of everything that decides the trial.

    Attributes:
        saved: the snapshot to go on from, of `phase` and what `write` was given; None to begin.
        writer: of TensorBoard once it was opened, or None.

    Raises:
        ValueError: the checkpoints are of another configuration.
    """

    def __init__(self, folder: Path | None, checkpoints: Path | None, key: str) -> None:
        self.folder = folder
        self.checkpoints = Checkpoints(checkpoints, key) if checkpoints else None
        self.saved: Snapshot = self.checkpoints.latest() if self.checkpoints else None
        self._before: float = self.saved["seconds"] if self.saved else 0.0
        self._started = time.perf_counter()
        self.writer: SummaryWriter | None = None

    def open(self) -> None:
        """Begin to write: curves go on where the snapshot was taken, what came later is cut off."""
        if self.folder:
            sweep(self.folder)
        self.writer = open_writer(self.folder, self.saved["events"] if self.saved else None)

    def is_in(self, phase: str) -> bool:
        """Whether there is a snapshot, and it was taken in that phase."""
        return self.saved is not None and self.saved["phase"] == phase

    @property
    def seconds(self) -> float:
        """Wall-clock time so far, that of killed processes up to their last checkpoint included."""
        return self._before + time.perf_counter() - self._started

    def offer(self, phase: str, snapshot: Callable[[], dict[str, Snapshot]]) -> None:
        """Write a checkpoint if it is time; what cannot be recorded is said once, and let be."""
        if self.checkpoints is None or not self.checkpoints.due():
            return
        if self.writer:
            self.writer.flush()
        try:
            state = snapshot()
        except UnrecordableError as error:
            self.checkpoints.give_up(error)
            return
        events = written_events(self.folder) if self.folder else {}
        about = {"phase": phase, "seconds": self.seconds, "events": events}
        self.checkpoints.write({**about, **state})

    def go_on(self, phase: str, go: Callable[[Snapshot], None]) -> bool:
        """Go to the snapshot that was taken in that phase, if there is one; says whether.

        Args:
            phase: of `offer`.
            go: called with the snapshot.

        Raises:
            ValueError: the snapshot does not fit; says what to remove.
        """
        if self.checkpoints is None or not self.is_in(phase):
            return False
        with self.checkpoints.restoring():
            go(self.saved)
        return True

    def close(self) -> None:
        """Close the curves."""
        if self.writer:
            self.writer.close()

    def remove(self) -> None:
        """The result is on the disk: nobody goes on from here."""
        if self.checkpoints:
            self.checkpoints.remove()


class Watch(BaseCallback):
    """Ends a learner's training in time, and has its checkpoints written.

    Args:
        run: where they go.
        phase: what they are called there.
        env: that it learns in.
        over: after every step, whether that was the last one.
        logged: whether the learner's curves are drawn.
    """

    def __init__(
        self,
        run: Resumption,
        phase: str,
        env: SB3VecEnv,
        over: Callable[[], bool] = lambda: False,
        logged: bool = True,
    ) -> None:
        super().__init__()
        self.run, self.phase, self.env, self.over, self.logged = run, phase, env, over, logged
        self.rollouts = 0

    def learn(self, model: Any, steps: int) -> None:
        """Let a learner go on to `steps` transitions, from the phase's snapshot if there is one."""
        # Their rollouts are counted here: their own count would begin anew.
        ours = isinstance(model, OnPolicyAlgorithm)
        arguments: dict[str, Any] = {"callback": self}
        arguments["log_interval"] = None if ours or not self.logged else LOG_INTERVAL

        def go(saved: Snapshot) -> None:
            self.rollouts = saved["rollouts"]
            self.env.restore(saved["env"])
            restore_learner(model, saved["model"])

        if self.run.go_on(self.phase, go):
            arguments["reset_num_timesteps"] = False
            steps -= model.num_timesteps
        model.learn(steps, **arguments)

    def _on_rollout_start(self) -> None:
        self.run.offer(
            self.phase,
            lambda: {
                "rollouts": self.rollouts,
                "env": self.env.snapshot(),
                "model": learner_snapshot(self.model),
            },
        )

    def _on_rollout_end(self) -> None:
        self.rollouts += 1
        due = self.logged and self.rollouts % LOG_INTERVAL == 0
        if due and isinstance(self.model, OnPolicyAlgorithm):
            self.model.dump_logs(self.rollouts)

    def _on_step(self) -> bool:
        return not self.over()


def learner_snapshot(model: Any) -> Snapshot:
    """A learner before a rollout, and the global generators that Stable-Baselines3 draws from.

    Raises:
        UnrecordableError: it has a state that is not understood here.
    """
    if getattr(model, "use_sde", False):
        # Its noise is drawn before anybody is told that a rollout begins.
        raise UnrecordableError(f"{type(model).__name__} explores by use_sde")
    noise = getattr(model, "action_noise", None)
    each = noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]
    if not all(one is None or type(one) is NormalActionNoise for one in each):
        raise UnrecordableError(f"{type(model).__name__}: {noise} remembers")
    space, logger = getattr(model, "action_space", None), model.logger
    return {
        "attributes": attributes_of(model, _CONSTANT, skipped=_SKIPPED),
        "memory": _memory(getattr(model, "replay_buffer", None)),
        "space": None if space is None else dict(space.np_random.bit_generator.state),
        # What waits to be drawn as the next point of a curve.
        "values": dict(logger.name_to_value),
        "counts": dict(logger.name_to_count),
        "excluded": dict(logger.name_to_excluded),
        "global": {
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),  # noqa: NPY002 - it is Stable-Baselines3 that draws
            "python": random.getstate(),
        },
    }


def restore_learner(model: Any, snapshot: Snapshot) -> None:
    """Bring a freshly made learner to where `learner_snapshot` was taken."""
    restore_attributes(model, snapshot["attributes"])
    if snapshot["memory"] is not None:
        buffer = model.replay_buffer
        for name, values in snapshot["memory"]["arrays"].items():
            getattr(buffer, name)[: len(values)] = values
        buffer.pos, buffer.full = snapshot["memory"]["pos"], snapshot["memory"]["full"]
    if snapshot["space"] is not None:
        model.action_space.np_random.bit_generator.state = snapshot["space"]
    for name in ("values", "counts", "excluded"):
        waiting = getattr(model.logger, f"name_to_{name.removesuffix('s')}")
        waiting.clear()
        waiting.update(snapshot[name])
    torch.set_rng_state(snapshot["global"]["torch"])
    np.random.set_state(snapshot["global"]["numpy"])  # noqa: NPY002 - see above
    random.setstate(snapshot["global"]["python"])


def _memory(buffer: Any) -> Snapshot | None:
    """The part of a replay buffer that has been filled."""
    if not isinstance(buffer, ReplayBuffer):
        return None
    filled = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {k: v[:filled] for k, v in vars(buffer).items() if isinstance(v, np.ndarray)}
    return {"arrays": arrays, "pos": buffer.pos, "full": buffer.full}
