"""The merge tree of a grid against a slow one, cell by cell."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxscape.topology import merge_tree as fast
from tests.topology.helpers import (
    ALL_NEIGHBORS,
    INF,
    NAN,
    OUTSIDE,
    SIDE_NEIGHBORS,
    lowest_neighbor,
    random_losses,
    slow_merge_tree,
)


def nodes(loss, sign, tree):
    """Return the cells by rank as (sign * loss, i, j)."""
    return [
        OUTSIDE if flat < 0 else (sign * loss.flat[flat], *np.unravel_index(flat, loss.shape))
        for flat in tree.cells.tolist()
    ]


@given(seed=st.integers(0, 100_000))
@settings(max_examples=100, deadline=None)
def test_basins_merge_as_cell_by_cell(seed):
    """Cells added from the lowest up, each joining the components of its neighbors."""
    loss = random_losses(seed)
    for sign, steps, all_steps in (
        (1, fast.SIDES_AND_CORNERS, ALL_NEIGHBORS),
        (-1, fast.SIDES, SIDE_NEIGHBORS),
    ):
        tree = fast.merge_tree(loss, sign, steps)
        by_rank = nodes(loss, sign, tree)
        merges = {
            by_rank[rank]: (
                by_rank[bridge[0]] if into >= 0 else None,
                by_rank[tree.minima[into]] if into >= 0 else None,
            )
            for rank, into, bridge in zip(tree.minima, tree.into, tree.bridge, strict=True)
            if tree.cells[rank] >= 0
        }
        slow = slow_merge_tree(sign * loss, all_steps, outside=sign < 0)
        assert merges == slow


@given(seed=st.integers(0, 100_000))
@settings(max_examples=100, deadline=None)
def test_descent_leads_to_the_lowest_neighbor(seed):
    loss = random_losses(seed)
    tree = fast.merge_tree(loss, 1, fast.SIDES_AND_CORNERS)
    for i, j in np.argwhere(np.isfinite(loss)):
        rank = tree.rank[i, j]
        assert tree.cells[rank] == i * loss.shape[1] + j
        low = lowest_neighbor(loss, i, j)
        assert tree.descent[rank] == tree.rank[low]
        assert tree.basin[rank] == tree.basin[tree.descent[rank]]


def test_ranks_increase_with_the_loss_and_the_wall_is_at_an_end():
    loss = np.array([[3.0, NAN, 1], [2, INF, 1]])
    low = fast.merge_tree(loss, 1, fast.SIDES_AND_CORNERS)
    np.testing.assert_array_equal(low.cells, [2, 5, 3, 0, -1])
    np.testing.assert_array_equal(low.rank, [[3, 4, 0], [2, 4, 1]])
    high = fast.merge_tree(loss, -1, fast.SIDES)
    assert high.cells[0] == -1
    np.testing.assert_array_equal(high.cells[1:3], [0, 3])


def test_steps_are_followed_to_their_fixed_points():
    np.testing.assert_array_equal(
        fast.follow(np.array([0, 0, 1, 2, 4, 3, 4])), [0, 0, 0, 0, 4, 0, 4]
    )
