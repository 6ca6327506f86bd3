"""The sections of `scripts/bench.py`: each measures one thing beside its peer, in one process."""
