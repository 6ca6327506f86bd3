"""Head-room: who bounds it, what is left of it, and when it must not be a number."""

import re
from typing import Any

import pytest
from scipy import stats

from agents.headroom import chooses, head_room, oracles_of

Scores = dict[str, tuple[list[float], float]]


def runs_of(scores: Scores, **more: Any) -> list[dict[str, Any]]:
    """Per agent its test MRR by seed, and its valid MRR."""
    return [
        {"agent": agent, "seed": seed, "test": {"mrr": mrr}, "valid": {"mrr": valid}, **more}
        for agent, (values, valid) in scores.items()
        for seed, mrr in enumerate(values)
    ]


ROOM: Scores = {
    "oracle": ([0.40, 0.41, 0.42], 0.40),
    "oracle:relation": ([0.39, 0.40, 0.40], 0.45),
    "all": ([0.30, 0.31, 0.31], 0.30),
    "fixed": ([0.29, 0.30, 0.30], 0.35),
    "ppo": ([0.34, 0.36, 0.35], 0.30),
    "a2c": ([0.10, 0.11, 0.12], 0.30),
    "dqn": ([0.60, 0.61, 0.62], 0.30),
}


def test_shares_by_hand() -> None:
    """Bound and control are the best by valid: .10 on each seed; ppo has .05, .06, .05 of it."""
    room = head_room(runs_of(ROOM))
    assert room is not None
    assert (room.oracle, room.control) == ("oracle:relation", "fixed")
    assert room.mean == pytest.approx(0.10)
    assert room.interval == (pytest.approx(0.10), pytest.approx(0.10))
    assert room.sentence() == (
        "Head-room: oracle:relation beats fixed by +0.1000 MRR [+0.1000, +0.1000]."
    )
    assert "by +10.00 MRR [+10.00, +10.00]" in room.sentence(percent=True)
    # The denominator does not vary, so that Fieller's interval is Student's t.
    expected = stats.t.interval(0.95, 2, 16 / 30, stats.sem([0.5, 0.6, 0.5]))
    share, interval = room.shares["ppo"]
    assert share == pytest.approx(16 / 30)
    assert interval == pytest.approx(expected, rel=2e-3)
    assert room.share("ppo") == "53 %"
    assert room.share_with_interval("ppo") == "53 % [39 %, 68 %]"
    assert room.realised("ppo") == "ppo realises 53 % of it [39 %, 68 %]"
    assert {"oracle:relation", "fixed"}.isdisjoint(room.shares)
    assert room.to_json()["shares"]["ppo"]["mean"] == share


def test_beyond_the_room_is_words() -> None:
    """a2c is −187 % and dqn 313 %: figures that say nothing."""
    room = head_room(runs_of(ROOM))
    assert room is not None
    assert room.shares["a2c"][0] < -1.8
    assert room.share("a2c") == "< 0"
    assert room.realised("a2c") == "a2c realises none of it [< 0, < 0]"
    assert room.share("dqn") == "> 100 %"
    assert room.realised("dqn") == "dqn realises more than all of it [> 100 %, > 100 %]"


@pytest.mark.parametrize(
    ("oracle", "says"),
    [
        ([0.315, 0.300, 0.315], r"not measurable: oracle is not distinguishable from all \(\+0.00"),
        ([0.29, 0.315, 0.30], r"not measurable: oracle is not distinguishable from all \(-0.00"),
        ([0.20, 0.21, 0.212], r"no head-room: oracle loses to all by -0.0993 MRR .* is no bound"),
        ([0.40], "not measurable: oracle and all have one seed in common"),
    ],
)
def test_without_room_there_are_no_shares(oracle: list[float], says: str) -> None:
    scores: Scores = {"oracle": (oracle, 0.4), "all": ROOM["all"], "ppo": ROOM["ppo"]}
    room = head_room(runs_of(scores))
    assert room is not None
    assert room.shares == {}
    assert room.share("ppo") == room.share_with_interval("ppo") == "–"
    assert room.realised("ppo") == ""
    assert re.search(says, room.sentence())
    assert "%" not in room.sentence()


def test_it_takes_an_oracle_and_somebody_who_does_not_choose() -> None:
    for names in (("all", "ppo"), ("oracle", "ppo"), ()):
        assert head_room(runs_of({name: ROOM[name] for name in names})) is None
    with_single: Scores = {"oracle": ROOM["oracle"], "single:best": ROOM["all"]}
    room = head_room(runs_of(with_single))
    assert room is not None
    assert room.control == "single:best"


def test_turns_and_chance_choose_nothing() -> None:
    """What they gain over `all` is nobody's choosing, however the draw is made."""
    assert not any(chooses(name) for name in ("random", "random:once", "cycle", "cycle@probs"))
    assert all(chooses(name) for name in ("relation", "tabular", "stacked", "complement", "ppo"))


def test_shares_need_seeds_in_common() -> None:
    """An agent with a single seed has no share, the others do."""
    found = runs_of({name: ROOM[name] for name in ("oracle", "all", "ppo", "a2c")})
    room = head_room([run for run in found if run["agent"] != "ppo" or run["seed"] == 0])
    assert room is not None
    assert set(room.shares) == {"a2c"}


def test_oracles_are_noted_or_in_older_files_known_by_name() -> None:
    assert oracles_of(runs_of({"oracle": ROOM["all"], "oracle:oof": ROOM["all"]})) == {
        "oracle",
        "oracle:oof",
    }
    assert oracles_of(runs_of({"seer": ROOM["all"]}, oracle=True)) == {"seer"}
    assert oracles_of(runs_of({"oracle": ROOM["all"]}, oracle=False)) == set()
    assert oracles_of(runs_of({"oracles": ROOM["all"]})) == set()
