"""Grids of losses, and slow references for their merge trees and minimax paths."""

import numpy as np

import jaxscape as jxs

SIDE_NEIGHBORS = ((-1, 0), (0, -1), (0, 1), (1, 0))
ALL_NEIGHBORS = (*SIDE_NEIGHBORS, (-1, -1), (-1, 1), (1, -1), (1, 1))
OUTSIDE = (-np.inf, -1, -1)
NAN, INF = np.nan, np.inf


def surface(loss, a=None, b=None):
    """Make a landscape of losses, by default on axes that are not uniform or centered."""
    loss = np.asarray(loss, float)
    n1, n2 = loss.shape
    a = np.arange(n1) ** 1.5 if a is None else a
    b = np.arange(n2) / 4 - 3 if b is None else b
    return jxs.Landscape(loss, jxs.Axis(a, "w1"), jxs.Axis(b, "w2"), "loss", "dense")


def himmelblau():
    """Make a landscape of Himmelblau's function."""
    a, b = np.linspace(-5, 5, 401), np.linspace(-5, 5, 301)
    x, y = a[:, None], b[None]
    return surface((x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2, a, b)


def random_losses(seed):
    """Draw a small array of noise, ties or smooth bumps, with or without holes."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 13, 2))
    kind = seed % 3
    if kind == 0:
        loss = rng.normal(size=shape)
    elif kind == 1:
        loss = rng.integers(0, rng.integers(1, 6), shape).astype(float)
    else:
        x, y = np.meshgrid(*map(np.arange, shape), indexing="ij")
        p = rng.normal(size=6)
        loss = np.sin(p[0] * x + p[1] * y + p[2]) + np.cos(p[3] * x * y / 9 + p[4]) + p[5] * x / 9
    if rng.random() < 0.5:
        holes = rng.random(shape) < 0.3 * rng.random()
        loss[holes] = rng.choice([NAN, INF, -INF], holes.sum())
        loss[rng.integers(shape[0]), rng.integers(shape[1])] = 0.5
    return loss


def neighbors(loss, i, j, steps):
    """Yield the neighbors of a cell; None for one outside or not finite."""
    for di, dj in steps:
        u, v = i + di, j + dj
        inside = 0 <= u < loss.shape[0] and 0 <= v < loss.shape[1]
        yield (u, v) if inside and np.isfinite(loss[u, v]) else None


def slow_merge_tree(loss, steps, outside):
    """Return {minimum: (saddle, minimum merged into)}, all as (loss, i, j), cell by cell."""
    nodes = sorted((loss[ij], *ij) for ij in np.ndindex(loss.shape) if np.isfinite(loss[ij]))
    up, merges = {OUTSIDE: OUTSIDE}, {}

    def root(node):
        return node if up[node] == node else root(up[node])

    for node in nodes:
        around = [other and (loss[other], *other) for other in neighbors(loss, *node[1:], steps)]
        around = [OUTSIDE if other is None and outside else other for other in around]
        roots = sorted({root(other) for other in around if other in up})
        up[node] = roots[0] if roots else node
        if not roots:
            merges[node] = None, None
        for other in roots[1:]:
            up[other] = roots[0]
            merges[other] = node, roots[0]
    return merges


def without_zero_persistence(merges):
    """Drop the minima that merge at their own loss."""
    return {
        node: (over, None if into == OUTSIDE else into)
        for node, (over, into) in merges.items()
        if over is None or over[0] > node[0]
    }


def lowest_neighbor(loss, i, j):
    """Return the lowest of a cell and its neighbors."""
    cells = [
        (loss[i, j], i, j),
        *((loss[c], *c) for c in neighbors(loss, i, j, ALL_NEIGHBORS) if c),
    ]
    return min(cells)[1:]


def bottleneck(loss, start, end):
    """Return the lowest level at which two cells are connected; None if there is none."""
    for level in np.unique(loss[np.isfinite(loss)]):
        if max(loss[start], loss[end]) > level:
            continue
        seen, waiting = {start}, [start]
        while waiting:
            for cell in neighbors(loss, *waiting.pop(), ALL_NEIGHBORS):
                if cell and loss[cell] <= level and cell not in seen:
                    seen.add(cell)
                    waiting.append(cell)
        if end in seen:
            return level
    return None
