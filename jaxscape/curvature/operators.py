"""Hessians and Gauss–Newton matrices of any model, as functions that multiply vectors."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxscape._util.checks import check_choice
from jaxscape._util.devices import in_full_precision
from jaxscape._util.pytree import (
    Params,
    Static,
    as_arrays,
    check_finite,
    combine,
    is_none,
    is_parameter,
    kind_of,
    partition,
    split_arrays,
)
from jaxscape.data.stream import Passes, example_of
from jaxscape.losses.batch_statistics import check_data
from jaxscape.losses.checks import (
    ScalarLoss,
    check_is_function,
    check_same_shape,
    loss_name,
    mean_over_samples,
    scalar,
)
from jaxscape.losses.composed import ComposedLoss
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.directions import Direction

Curvature = Literal["hessian", "gauss-newton"]

# The most vectors that one call multiplies, and the most numbers in them.
_MAX_ROWS, _MAX_NUMBERS = 128, 2**23


class _Task(NamedTuple):
    """The static arguments of a compiled product."""

    loss: ScalarLoss
    curvature: Curvature
    static: Static
    """The leaves of the parameters that do not move and are not arrays."""


@dataclass(frozen=True, eq=False)
class Operator:
    """A symmetric matrix over the n floating numbers of some parameters, in the leaves' order."""

    task: _Task
    moving: Params
    """The leaves that move, `None` for the others."""
    arrays: Params
    """The other leaves that are arrays, `None` for the rest."""
    passes: Passes
    """Passes over the second argument of the loss, or a `Stream` of it."""

    @property
    def size(self) -> int:
        """The matrix's size, n."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.moving))

    @property
    def dtype(self) -> np.dtype:
        """The dtype in which products are computed."""
        return jnp.result_type(*jax.tree.leaves(self.moving))

    @property
    def name(self) -> str:
        """The matrix's name in figures."""
        kind = {"hessian": "Hessian", "gauss-newton": "Gauss–Newton matrix"}[self.task.curvature]
        return f"{kind} of {loss_name(self.task.loss)}"

    @property
    def rows(self) -> int:
        """The number of vectors that one pass over the data multiplies."""
        return max(1, min(_MAX_ROWS, _MAX_NUMBERS // self.size))

    def times(self, vectors: np.ndarray, progress: Any) -> np.ndarray:
        """Multiply the matrix by each of some vectors.

        Args:
            vectors: (m, n).
            progress: a progress bar, which counts vectors.

        Returns:
            (m, n) float64, computed in the parameters' dtype.

        Raises:
            ValueError: A pass over a stream yields other samples than the first.
        """
        # Pad each block, so that one compiled program serves all numbers of vectors above 1.
        rows = 1 if len(vectors) == 1 else self.rows
        result = np.empty(vectors.shape)
        for start in range(0, len(vectors), rows):
            block = vectors[start : start + rows]
            padded = np.zeros((rows, self.size), self.dtype)
            padded[: len(block)] = block
            multiply = functools.partial(
                products, self.task, self.moving, self.arrays, vectors=padded, count=len(block)
            )
            product = self.passes.mean(multiply)
            result[start : start + rows] = np.asarray(product)[: len(block)]
            progress.update(len(block))
        return result

    def directions(self, vectors: np.ndarray) -> Direction:
        """Convert vectors, (k, n), to directions in parameter space.

        Returns:
            A pytree of the structure of the parameters, as `random_directions` returns: each leaf
            that moves with a leading axis k, `None` for the others.
        """
        leaves, structure = jax.tree.flatten(self.moving)
        ends = np.cumsum([leaf.size for leaf in leaves])
        steps = [
            jnp.asarray(part.reshape(len(vectors), *leaf.shape), leaf.dtype)
            for leaf, part in zip(leaves, np.split(vectors, ends[:-1], axis=1), strict=True)
        ]
        return jax.tree.unflatten(structure, steps)


def make_operator(
    loss: ScalarLoss,
    data: Any,
    params: Params,
    curvature: Curvature,
    leaves: Callable[[str], bool] | None = None,
) -> Operator:
    """Return the Hessian of a loss, or its Gauss–Newton matrix.

    Args:
        loss: (params, data) -> scalar of a floating dtype; for "gauss-newton" a `PointwiseLoss` or
            a `ComposedLoss`.
        data: the second argument of the loss, or a `Stream` of batches of it.
        params: pytree; leaves that are not floating numbers do not move.
        curvature: "hessian" or "gauss-newton".
        leaves: tree path -> whether a floating leaf moves; None if all of them move.

    Raises:
        TypeError: The loss is not a function, does not return a floating scalar, or is not a
            composition of a model and a loss of its outputs.
        ValueError: The parameters are not finite or hold no floating numbers, the stream has no
            batches, or `curvature` is unknown.
    """
    check_is_function("loss", loss)
    check_data(loss, data)
    check_choice("curvature", curvature, ("hessian", "gauss-newton"))
    if curvature == "gauss-newton" and not isinstance(loss, PointwiseLoss | ComposedLoss):
        raise TypeError(
            "loss: expected a PointwiseLoss or a ComposedLoss for curvature='gauss-newton', which "
            f"needs the model and the loss of its outputs separately, got {loss!r}"
        )
    moving, rest = partition(params, leaves)
    if not any(jnp.size(leaf) for leaf in jax.tree.leaves(moving)):
        name = "params" if leaves is None else "params, leaves"
        structure = jax.tree.structure(params, is_leaf=is_none)
        raise ValueError(f"{name}: expected floating numbers, got none in {structure}")
    check_finite("params", params)
    example = example_of(data)
    moving = jax.tree.map(jnp.asarray, as_arrays(moving, example))
    arrays, static = split_arrays(rest)
    # Move the data to the device once instead of for every product.
    data = jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, data)
    task = _Task(loss, curvature, static)
    jax.eval_shape(functools.partial(_loss_of_batch, task), moving, arrays, example)
    loss_of_batch = functools.partial(_loss_of_batch, task, moving, arrays)
    return Operator(task, moving, arrays, Passes(data, loss_of_batch))


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def _loss_of_batch(task: _Task, moving: Params, arrays: Params, data: Any) -> jax.Array:
    """Return the loss; raise an error unless the loss and the model's outputs are floating."""
    params = combine(moving, task.static.with_arrays(arrays))
    value = scalar(task.loss(params, data))
    if task.curvature == "gauss-newton":
        predict, _ = _split_loss(task.loss)
        for leaf in jax.tree.leaves(predict(params, data)):
            if not is_parameter(leaf):
                raise TypeError(f"loss.predict: expected floating outputs, got {kind_of(leaf)}")
    return value


@functools.partial(jax.jit, static_argnums=0)
@in_full_precision
def products(
    task: _Task, moving: Params, arrays: Params, data: Any, *, vectors: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """Multiply the matrix by each of some vectors.

    Args:
        task: the static arguments.
        moving: the leaves that move, `None` for the others.
        arrays: the other leaves that are arrays, `None` for the rest.
        data: the second argument of the loss.
        vectors: (m, n).
        count: the number of vectors to multiply.

    Returns:
        (m, n) products, with zeros in the rows from `count` on; and the loss, a scalar.
    """
    flat, unravel = ravel_pytree(moving)
    rest = task.static.with_arrays(arrays)

    def params_at(flat: jax.Array) -> Params:
        return combine(unravel(flat), rest)

    if task.curvature == "hessian":
        # Forward over reverse mode; values that do not depend on the vector are computed once.
        gradient = jax.value_and_grad(lambda flat: scalar(task.loss(params_at(flat), data)))
        (loss, _), derivative = jax.linearize(gradient, flat)

        def product(vector: jax.Array) -> jax.Array:
            return derivative(vector)[1]
    else:
        predict, output_loss = _split_loss(task.loss)
        outputs, push = jax.linearize(lambda flat: predict(params_at(flat), data), flat)
        pull = jax.linear_transpose(push, flat)
        gradient = jax.value_and_grad(lambda outputs: scalar(output_loss(outputs, data)))
        (loss, _), derivative = jax.linearize(gradient, outputs)

        def product(vector: jax.Array) -> jax.Array:
            return pull(derivative(push(vector))[1])[0]

    # Use a loop, because the intermediate values of all vectors may not fit into memory.
    result = jax.lax.fori_loop(
        0,
        count,
        lambda k, result: result.at[k].set(product(vectors[k])),
        jnp.zeros_like(vectors),
    )
    return result, loss


def _split_loss(loss: Any) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], jax.Array]]:
    """Return the model, (params, data) -> outputs, and the loss of its outputs, (outputs, data)."""
    if isinstance(loss, ComposedLoss):
        return loss.predict, loss.output_loss

    def output_loss(prediction: jax.Array, data: Any) -> jax.Array:
        check_same_shape(prediction, data.y)
        return mean_over_samples(loss.error(prediction, data.y), data.sample_weight)

    return lambda params, data: loss.predict(params, data.x), output_loss
