"""The isolation of roots: functions with close roots, roots at ends, and double roots."""

import numpy as np
from tqdm import tqdm

from jaxscape.critical.two_weights import roots

NO_BAR = tqdm(disable=True)


def logarithm(root):
    """Enclose log(w / root) and its derivative."""
    return (
        lambda w: (np.log(w / root) - 1e-13, np.log(w / root) + 1e-13),
        lambda p, q: (np.ones_like(p), np.ones_like(p)),
    )


def test_an_isolating_subinterval_holds_one_root():
    """Two roots close to each other are separated."""

    def values(w1):
        exact = np.log(w1 / 1.001) * np.log(w1 / 1.002) * np.log(w1 / 3)
        return exact - 1e-15, exact + 1e-15

    def derivatives(p, q):
        # The product rule, with the factors bounded one by one.
        factors = [(np.log(p / c), np.log(q / c)) for c in (1.001, 1.002, 3)]
        products = [
            [u * v for u in first for v in second]
            for first, second in (
                (factors[0], factors[1]),
                (factors[0], factors[2]),
                (factors[1], factors[2]),
            )
        ]
        return sum(np.min(p, axis=0) for p in products), sum(np.max(p, axis=0) for p in products)

    found = roots.isolate(values, derivatives, 0.1, 50, 10_000, 32, NO_BAR)
    np.testing.assert_allclose(found.root, [1.001, 1.002, 3], rtol=1e-9)
    assert len(found.undecided) == 0
    assert (found.slope == [1, -1, 1]).all()
    for (low, high), root in zip(found.isolating, found.root, strict=True):
        others = found.root[found.root != root]
        assert not ((others > low) & (others < high)).any()


def test_a_root_at_the_end_of_a_subinterval_is_found():
    ends = np.geomspace(0.5, 8, int(8 * np.log(16)) + 1) * 1.000_123_4
    for root in ends[3:6]:
        found = roots.isolate(
            *logarithm(root),
            0.5,
            8,
            1000,
            32,
            NO_BAR,
        )
        np.testing.assert_allclose(found.root, [root], rtol=1e-12)


def test_a_double_root_is_left_undecided():
    """A root without a change of sign cannot be certified in floating point."""
    found = roots.isolate(
        lambda w: (np.log(w / 2) ** 2 - 1e-16, np.log(w / 2) ** 2 + 1e-16),
        lambda p, q: (2 * np.log(p / 2), 2 * np.log(q / 2)),
        0.1,
        30,
        100_000,
        32,
        NO_BAR,
    )
    assert len(found.root) == 0
    assert len(found.undecided)
    assert found.undecided.min() < 2 < found.undecided.max()


def test_a_limit_leaves_the_rest_undecided():
    found = roots.isolate(*logarithm(2.0), 0.5, 8, 0, 32, NO_BAR)
    assert found.examined == 0
    assert len(found.root) == 0
    np.testing.assert_allclose(found.undecided, [[0.5, 8]])


def test_adjacent_results_are_concatenated():
    parts = [roots.isolate(*logarithm(2.0), *ends, 999, 4, NO_BAR) for ends in ((0.5, 3), (3, 8))]
    whole = roots.concatenate(parts)
    np.testing.assert_allclose(whole.root, [2], rtol=1e-12)
    assert whole.examined == sum(part.examined for part in parts)
    assert not whole.interrupted
    assert len(roots.NONE.root) == len(roots.NONE.undecided) == 0
