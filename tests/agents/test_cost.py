"""What a grid costs: a table worked out by hand, and a bound that schedules keep."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.report.cost import Cost, Grid, cells, grid_seconds, parse_cost, render_cost

MKG = Cost("MKG-Y", 20_000, 2, 512, 64, "a machine", {"none": 10.0, "ppo": 30.0})
EMOJI = Cost("emoji", 5_000, 4, 512, 64, "a machine", {"none": 4.0, "ppo": 8.0})


def test_a_grid_worked_out_by_hand() -> None:
    # At 8 epochs: 40 and 120 s, 8 and 16 s, 46 s in the mean.
    grid = Grid(2, 10, 5, cores=(1, 10), epochs=8)
    assert grid_seconds([MKG, EMOJI], grid) == (4600.0, 120.0)
    page = render_cost([MKG, EMOJI], grid)
    assert "| `ppo` | 120.0 | 16.0 |" in page
    assert "100 trials: 77 min of one core, the longest trial 2 min" in page
    assert "| 10 | 8 min | 9 min |" in page
    assert grid_seconds([MKG], Grid(2, 1, 1, (1,))) == (40.0, 30.0)


@given(
    st.lists(st.floats(0.1, 100), min_size=2, max_size=4),
    st.lists(st.floats(0.1, 100), min_size=2, max_size=4),
    st.data(),
)
def test_what_was_not_measured_has_the_proportions_of_the_others(
    graphs: list[float], agents: list[float], data: st.DataObject
) -> None:
    """Exactly, where an agent costs the same multiple of another on every graph."""
    table = [{str(n): graph * agent for n, agent in enumerate(agents)} for graph in graphs]
    # The first graph and the first agent are measured in full.
    holes = data.draw(st.sets(st.tuples(st.integers(1, len(graphs) - 1), st.integers(1, 3))))
    costs = [
        Cost("g", 1, 1, 1, 1, "", {n: v for n, v in row.items() if (place, int(n)) not in holes})
        for place, row in enumerate(table)
    ]
    for found, row in zip(cells(costs), table, strict=True):
        assert found == pytest.approx(row)


def test_graphs_with_nothing_in_common_say_nothing_of_each_other() -> None:
    with pytest.raises(ValueError, match="ppo: no graph was measured with it"):
        cells([replace(MKG, seconds={"none": 1.0}), replace(EMOJI, seconds={"ppo": 1.0})])


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20), st.integers(1, 8))
def test_whoever_takes_the_next_trial_ends_between_the_bounds(
    seconds: list[float], cores: int
) -> None:
    costs = [Cost("g", 1, 1, 1, 1, "", {str(n): value for n, value in enumerate(seconds)})]
    total, longest = grid_seconds(costs, Grid(len(seconds), 1, 1, (cores,)))
    busy = [0.0] * cores
    for value in seconds:
        first = busy.index(min(busy))
        busy[first] += value
    assert max(total / cores, longest) <= max(busy) * (1 + 1e-9)
    assert max(busy) <= (total / cores + longest * (1 - 1 / cores)) * (1 + 1e-9)


@pytest.mark.parametrize("bad", [{"agents": 0}, {"cores": (0,)}, {"cores": ()}, {"epochs": 0}])
def test_grids_of_nothing_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Grid(**({"agents": 1, "seeds": 1, "graphs": 1, "cores": (1,)} | bad))


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="not the result of a comparison"):
        parse_cost({"format": 1, "runs": [{}]})
