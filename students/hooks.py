"""What may happen around an update of the one training step, beside its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from students.snapshots import Snapshot

if TYPE_CHECKING:
    from students.forward import Forward
    from students.training import Trainer


class StepHook:
    """Looks at, or changes, what an update does; `Trainer.hooks` are asked in their order."""

    def before_step(self, trainer: Trainer, forward: Forward) -> None:
        """Called with the loss's gradients in the parameters' `grad`, which may be changed.

        Args:
            trainer: whose parameters are about to be updated.
            forward: the batch.
        """

    def after_step(self, trainer: Trainer) -> None:
        """Called when the parameters have been updated."""

    def end_epoch(self) -> str:
        """Called after an epoch by whoever counts them; a few words for the log, or none."""
        return ""

    def snapshot(self) -> Snapshot:
        """What it remembers from epoch to epoch, for `restore`; nothing unless it says so."""
        return None

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned."""
