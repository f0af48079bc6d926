"""Whether a loss is twice differentiable, by how far its derivatives explain its differences."""

from collections.abc import Callable
from typing import Any

import numpy as np

# How a rest falls from one distance to a quarter of it: by 64 where the loss is smooth, by 16 where
# its Hessian jumps, by 4 where its gradient does.
_SMOOTH, _STEADY = 1 / 30, 1 / 8


def smoothness(
    at: Callable, points: np.ndarray, box: Any, spacing: np.ndarray, steepest: float
) -> str:
    """ "smooth", "Hessian jumps", or "gradient jumps", as it does where the loss itself does.

    Of a smooth loss the difference of two gradients is the Hessian times their distance, but for a
    rest, and that of two losses the gradient times it. The rest falls with the cube of the distance
    where the loss is smooth, with its square where the Hessian jumps along a line, and no faster
    than the distance where the gradient does.
    """

    start, end = np.array(box).T
    widths = end - start

    def rest(part: float, places: int) -> np.ndarray:
        """The mean rests of loss and gradient over this part of a cell, to each side."""
        total = np.zeros(2)
        # Spread evenly over the cells: nodes are all at one distance from a straight kink.
        golden = np.array([0.7548776662466927, 0.5698402909980532])
        shifts = np.outer(np.arange(places * len(points)), golden) % 1 - 0.5
        spread = np.tile(points, (places, 1)) + spacing * shifts
        low, high = start + spacing / 2, end - spacing / 2
        inner = np.clip(spread, low, high)
        _, gradient, hessian = at(inner)
        for k in (0, 1):
            step = np.zeros(2)
            step[k] = part * spacing[k]
            ahead, behind = at(inner + step), at(inner - step)
            left = ahead.gradient - behind.gradient - 2 * step[k] * hessian[:, :, k]
            jump = ahead.loss - behind.loss - 2 * step[k] * gradient[:, k]
            total += abs(jump).mean(), abs(left * widths).sum(axis=1).mean()
        return total

    loss, gradient, hessian = at(points)
    # In a small box values differ by little more than the rounding of the coordinates makes.
    blur = 64 * np.finfo(float).eps * abs(points)
    shaken = (abs(hessian) @ blur[:, :, None])[:, :, 0] * widths
    noise = np.array(
        [
            1e-10 * np.ptp(loss)
            + 64 * np.finfo(float).eps * abs(loss).max()
            + (abs(gradient) * blur).sum(axis=1).max(),
            1e-10 * steepest + shaken.sum(axis=1).max(),
        ]
    )
    far, near = rest(1 / 2, 1), rest(1 / 8, 1)
    if (near > np.maximum(_SMOOTH * far, noise)).any():
        # What turns fast within a cell looks like kinks, but not from nearer.
        far, near = rest(1 / 8, 4), rest(1 / 32, 4)
    if near[0] > max(_STEADY * far[0], noise[0]) or near[1] > max(_STEADY * far[1], noise[1]):
        return "gradient jumps"
    return "smooth" if near[1] <= max(_SMOOTH * far[1], noise[1]) else "Hessian jumps"
