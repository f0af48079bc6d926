"""Matrices and losses that the tests of curvature share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape.losses.composed import ComposedLoss

KEY = jax.random.key(0)


def with_eigenvalues(values, dtype=np.float64):
    """Return a symmetric matrix with these eigenvalues and random eigenvectors."""
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(len(values), len(values))))[0]
    return ((turn * np.asarray(values)) @ turn.T).astype(dtype)


def quadratic(p, matrix):
    """A loss whose Hessian is the matrix."""
    return p @ matrix @ p / 2


def logits(params, data):
    """Compute the outputs of a network with tanh layers, given as pairs of weights and biases."""
    x = data["x"]
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b[None])
    return x @ params[-1][0] + params[-1][1][None]


def cross_entropy(outputs, data):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, data["label"]).mean()


CLASSIFIER = ComposedLoss(logits, cross_entropy)
