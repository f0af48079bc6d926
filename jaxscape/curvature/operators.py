"""Hessians and Gauss–Newton matrices of any model, by their products with vectors only."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxscape._util import pytree
from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import check_finite, is_array, is_none, is_parameter
from jaxscape.data.stream import example_of, mean_over
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import (
    check_is_function,
    check_same_shape,
    loss_name,
    mean_over_samples,
    scalar,
)
from jaxscape.losses.composed import ComposedLoss
from jaxscape.losses.pointwise import PointwiseLoss

Curvature = Literal["hessian", "gauss-newton"]

# Vectors that are multiplied together at most, and numbers of theirs.
_MOST_ROWS, _AT_ONCE = 128, 2**23


class _Task(NamedTuple):
    """What is compiled for."""

    loss: Callable[[Any, Any], jax.Array]
    curvature: Curvature
    structure: Any
    """Of the parameters."""
    others: tuple[Any, ...]
    """Their leaves that are no arrays, `None` for the others."""


@dataclass(frozen=True, eq=False)
class Operator:
    """A symmetric matrix over the n floating numbers of some parameters, one after the other."""

    task: _Task
    moving: tuple[Any, ...]
    """The leaves that hold them, `None` for the others."""
    still: tuple[Any, ...]
    """The other leaves that are arrays, `None` for the others."""
    data: Any

    @property
    def size(self) -> int:
        """n."""
        return sum(leaf.size for leaf in self.moving if leaf is not None)

    @property
    def dtype(self) -> Any:
        """In which products are computed."""
        return jnp.result_type(*(leaf for leaf in self.moving if leaf is not None))

    @property
    def name(self) -> str:
        """What the matrix is called in figures."""
        kind = {"hessian": "Hessian", "gauss-newton": "Gauss–Newton matrix"}[self.task.curvature]
        return f"{kind} of {loss_name(self.task.loss)}"

    @property
    def rows(self) -> int:
        """How many vectors are multiplied together: they share a pass over a stream."""
        return max(1, min(_MOST_ROWS, _AT_ONCE // self.size))

    def times(self, vectors: np.ndarray, progress: Any) -> np.ndarray:
        """The matrix times each of some vectors.

        Args:
            vectors: (m, n).
            progress: a bar, which moves by the vectors that are done.

        Returns:
            (m, n) float64, computed in the parameters' dtype.
        """
        # A block is padded, so that all numbers of vectors but 1 share a program.
        rows = 1 if len(vectors) == 1 else self.rows
        found = np.empty(vectors.shape)
        for start in range(0, len(vectors), rows):
            block = vectors[start : start + rows]
            padded = np.zeros((rows, self.size), self.dtype)
            padded[: len(block)] = block
            multiply = functools.partial(
                products, self.task, self.moving, self.still, vectors=padded, count=len(block)
            )
            product = mean_over(self.data, multiply)
            found[start : start + rows] = np.asarray(product)[: len(block)]
            progress.update(len(block))
        return found

    def directions(self, vectors: np.ndarray) -> Any:
        """Vectors, (k, n), as directions in parameter space.

        Returns:
            The structure of the parameters, each leaf that moves with a leading axis k, `None` for
            the others: as `random_directions` returns them.
        """
        found: list[Any] = []
        start = 0
        for leaf in self.moving:
            if leaf is None:
                found.append(None)
                continue
            part = vectors[:, start : start + leaf.size]
            found.append(jnp.asarray(part.reshape(-1, *leaf.shape), leaf.dtype))
            start += leaf.size
        return jax.tree.unflatten(self.task.structure, found)


def operator_of(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    params: Any,
    curvature: Curvature,
    leaves: Callable[[str], bool] | None = None,
) -> Operator:
    """The matrix of second derivatives of a loss, or Gauss and Newton's part of it.

    Args:
        loss: (params, data) -> scalar of a floating dtype; for "gauss-newton" a `PointwiseLoss` or
            a `ComposedLoss`.
        data: what the loss takes, or a `Stream` of it.
        params: pytree; leaves that are not floating numbers stay as they are.
        curvature: which of the two.
        leaves: path of a leaf -> whether the matrix is over its numbers too; None for all.

    Raises:
        TypeError: a loss that is none, or returns no floating scalar, or is not in two parts.
        ValueError: parameters that are not finite, or none; a stream without batches; an unknown
            curvature.
    """
    check_is_function("loss", loss)
    check_data(loss, data)
    if curvature not in ("hessian", "gauss-newton"):
        raise ValueError(f"curvature: expected 'hessian' or 'gauss-newton', got {curvature!r}")
    if curvature == "gauss-newton" and not isinstance(loss, PointwiseLoss | ComposedLoss):
        raise TypeError(
            "loss: expected a PointwiseLoss or a ComposedLoss for curvature='gauss-newton', which "
            f"needs the model and the loss of its outputs apart, got {loss!r}"
        )

    def moves(path: Any, leaf: Any) -> bool:
        return is_parameter(leaf) and (leaves is None or leaves(jax.tree_util.keystr(path)))

    paths, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_none)
    kept = [moves(path, leaf) for path, leaf in paths]
    if not any(moved and jnp.size(leaf) for moved, (_, leaf) in zip(kept, paths, strict=True)):
        name = "params" if leaves is None else "params, leaves"
        raise ValueError(f"{name}: expected floating numbers, got none in {structure}")
    check_finite("params", params)
    example = example_of(data)
    moving = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if moves(path, leaf) else None, params
    )
    moving = jax.tree.map(jnp.asarray, pytree.floating(moving, example))
    still = [None if moved else leaf for moved, (_, leaf) in zip(kept, paths, strict=True)]
    found = Operator(
        _Task(loss, curvature, structure, tuple(None if is_array(x) else x for x in still)),
        tuple(jax.tree.leaves(moving, is_leaf=is_none)),
        tuple(leaf if is_array(leaf) else None for leaf in still),
        # On the device once, and not again for every product.
        jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, data),
    )
    jax.eval_shape(functools.partial(_check_parts, found.task), found.moving, found.still, example)
    return found


def _check_parts(task: _Task, moving: tuple, still: tuple, data: Any) -> jax.Array:
    """The loss; refused if it is no scalar, or if its parts are none of a model."""
    params = _filled(task, moving, still)
    value = scalar(task.loss(params, data))
    if task.curvature == "gauss-newton":
        predict, _ = _parts(task.loss)
        for leaf in jax.tree.leaves(predict(params, data)):
            if not is_parameter(leaf):
                raise TypeError(
                    "loss.predict: expected floating outputs, got "
                    f"{getattr(leaf, 'dtype', type(leaf).__name__)}"
                )
    return value


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def products(
    task: _Task, moving: tuple, still: tuple, data: Any, *, vectors: jax.Array, count: int
) -> jax.Array:
    """The matrix times each of some vectors.

    Args:
        task: what is compiled for.
        moving: the leaves that hold floating numbers, `None` for the others.
        still: the other leaves that are arrays, `None` for the others.
        data: what the loss takes.
        vectors: (m, n).
        count: how many of them are multiplied.

    Returns:
        (m, n), zeros beyond `count`.
    """
    flat, unravel = ravel_pytree(moving)

    def filled(flat: jax.Array) -> Any:
        return _filled(task, unravel(flat), still)

    if task.curvature == "hessian":
        # Forward over reverse: what does not depend on the vector is computed once for all.
        slope = jax.grad(lambda flat: scalar(task.loss(filled(flat), data)))
        _, product = jax.linearize(slope, flat)
    else:
        predict, output_loss = _parts(task.loss)
        outputs, push = jax.linearize(lambda flat: predict(filled(flat), data), flat)
        pull = jax.linear_transpose(push, flat)
        slope = jax.grad(lambda outputs: scalar(output_loss(outputs, data)))
        _, bend = jax.linearize(slope, outputs)

        def product(vector: jax.Array) -> jax.Array:
            return pull(bend(push(vector)))[0]

    # One after the other: together, their intermediate values would not fit.
    return jax.lax.fori_loop(
        0,
        count,
        lambda k, found: found.at[k].set(product(vectors[k])),
        jnp.zeros_like(vectors),
    )


def _parts(loss: Any) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], jax.Array]]:
    """The model, (params, data) -> outputs, and the loss of its outputs, (outputs, data)."""
    if isinstance(loss, ComposedLoss):
        return loss.predict, loss.output_loss

    def output_loss(prediction: jax.Array, data: Any) -> jax.Array:
        check_same_shape(prediction, data.y)
        return mean_over_samples(loss.error(prediction, data.y), data.sample_weight)

    return lambda params, data: loss.predict(params, data.x), output_loss


def _filled(task: _Task, moving: tuple, still: tuple) -> Any:
    """The parameters, of their leaves that move, those that do not, and those that are no arrays.

    A leaf is in one of the three, `None` in the others.
    """
    triples = zip(moving, still, task.others, strict=True)
    leaves = [next((x for x in triple if x is not None), None) for triple in triples]
    return jax.tree.unflatten(task.structure, leaves)
