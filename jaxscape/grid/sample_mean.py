"""Losses that are means over samples, summed sample by sample in all cells at once.

The traced equations prove that a loss is such a mean; nothing is sampled. The loss is traced twice,
on all samples and on one, so that a number that depends on the number of samples is not mistaken
for a constant.
"""

import enum
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.jaxpr import (
    CHEAP,
    CHECKPOINTS,
    ELEMENTWISE,
    RESHAPES,
    ClosedJaxpr,
    JaxprEqn,
    MismatchError,
    avals,
    called_jaxpr,
    equations,
    interpret_both,
    literals,
)
from jaxscape.data.dataset import Dataset
from jaxscape.losses.checks import scalars, weight_divisor
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.planes.plane import Plane

# The samples whose errors are added in registers for each update of a cell's running sum. On two
# cores, 8 was the fastest of 4, 8, 16 and 24 at 1024 × 1024 cells; compile time grows with it.
_UNROLLED_SAMPLES = 8
# The most sums that a step updates. A step has a fixed cost, so on a small grid it adds several
# lanes of samples side by side. From 16 × 16 to 256 × 256 cells, no other number was faster.
_SUMS_PER_STEP = 32_768
# The most numbers in a plane's origin and directions, because operations on parameters alone are
# repeated for every sample. Compared with 2 numbers in each of the three, a grid took 1.2 times as
# long with 32, and 1.4 to 2.2 times as long with 128.
_MAX_NUMBERS = 96
# The most equations. Each is traced and compiled once for each of the unrolled samples.
_MAX_EQUATIONS = 200


def is_summed_by_sample(loss: Any, plane: Plane, data: Any, dtype: Any) -> bool:
    """Return whether a loss is proved to be a mean that is faster summed sample by sample.

    Args:
        loss: (params, data) -> scalar.
        plane: the plane through the parameters; only shapes matter.
        data: the loss's second argument; only shapes matter.
        dtype: the dtype of the coordinates.
    """
    if isinstance(loss, PointwiseLoss):
        if not isinstance(data, Dataset):
            return False
        data, _ = _remove_weights(data)
    if sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(plane)) > _MAX_NUMBERS:
        return False

    def value(point: Any, data: Any) -> jax.Array:
        plane, a, b = point
        return scalars(loss(plane.at(a, b), data))

    coordinate = jax.ShapeDtypeStruct((), dtype)
    return is_mean_over_samples(value, data, (plane, coordinate, coordinate))


def _remove_weights(data: Dataset) -> tuple[Dataset, jax.Array | None]:
    """Return the data without sample weights, and the weights."""
    leaves, weight = (data.x, data.y, None), data.sample_weight
    return data.tree_unflatten(None, leaves), weight


def losses_by_sample(
    loss: Callable, plane: Plane, a: jax.Array, b: jax.Array, data: Any
) -> jax.Array:
    """Compute the mean of a loss over single samples, in every cell.

    The nested `vmap` of a mean sums over samples inside every cell, which compilers vectorize
    badly. Here samples are the outermost loop: every step adds a few samples' losses to all cells.

    Args:
        loss: (params, data) -> scalar, a mean over samples as `is_mean_over_samples` defines it.
        plane: the plane through the parameters.
        a: (n1,) the first coordinates.
        b: (n2,) the second coordinates.
        data: the loss's second argument.

    Returns:
        (n1, n2) losses.
    """
    data, weight = _remove_weights(data) if isinstance(loss, PointwiseLoss) else (data, None)
    # Trace the loss on all data once, so that it can check their shapes.
    dtype = jax.eval_shape(lambda: loss(plane.at(a[0], b[0]), data)).dtype
    leaves, structure = jax.tree.flatten(data)
    has_samples = [leaf.ndim > 0 for leaf in leaves]
    columns = [leaf for leaf in leaves if leaf.ndim]
    n = len(columns[0])
    lanes = min(max(1, _SUMS_PER_STEP // (a.size * b.size)), math.ceil(n / _UNROLLED_SAMPLES))
    # Blocks of about √steps steps are summed separately and then added. A single running sum of
    # 3,000 float32 errors has a relative error of 1.5e-6, a sum of sums one of 3e-7.
    steps = math.ceil(n / (lanes * _UNROLLED_SAMPLES))
    inner = math.isqrt(steps)
    shape = (math.ceil(steps / inner), inner, lanes, _UNROLLED_SAMPLES)
    is_sample = np.arange(math.prod(shape)).reshape(shape) < n

    def blocks(array: jax.Array) -> jax.Array:
        missing = math.prod(shape) - n
        padding = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding, mode="edge").reshape(*shape, *array.shape[1:])

    def add_samples(total: jax.Array, samples: Any) -> tuple[jax.Array, None]:
        columns, weight, is_sample = samples
        errors = []
        for k in range(_UNROLLED_SAMPLES):

            def error(a: jax.Array, b: jax.Array, k: int = k) -> jax.Array:
                column = iter(columns)
                sample = [
                    next(column)[k : k + 1] if varies else leaf
                    for leaf, varies in zip(leaves, has_samples, strict=True)
                ]
                return loss(plane.at(a, b), jax.tree.unflatten(structure, sample))

            in_all_cells = map_grid(error, a, b)
            if weight is not None:
                in_all_cells = weight[k] * in_all_cells
            # A factor 0 would turn an infinite error of the padding into NaN.
            errors.append(jnp.where(is_sample[k], in_all_cells, 0))
        return total + sum(errors[1:], errors[0]), None

    def add_block(total: jax.Array, block: Any) -> tuple[jax.Array, None]:
        block_sum, _ = jax.lax.scan(jax.checkpoint(jax.vmap(add_samples)), zeros, block)
        return total + block_sum, None

    zeros = jnp.zeros((lanes, a.size, b.size), dtype)
    samples = *jax.tree.map(blocks, (columns, weight)), is_sample
    total, _ = jax.lax.scan(add_block, zeros, samples)
    return total.sum(axis=0) / (n if weight is None else weight_divisor(jnp.sum(weight)))


def map_grid(cell: Callable, a: jax.Array, b: jax.Array) -> jax.Array:
    """Compute `cell(a, b)` at every pair of coordinates, (n1, n2, ...)."""
    return jax.vmap(jax.vmap(cell, (None, 0)), (0, None))(a, b)


class Kind(enum.Enum):
    """How a value depends on the samples."""

    FIXED = enum.auto()
    """It does not depend on the samples."""
    PER_SAMPLE = enum.auto()
    """It has one number for each sample, in order, which depends on that sample only."""
    SUM = enum.auto()
    """It is the sum of such numbers over all samples."""
    MEAN = enum.auto()
    """It is the mean of such numbers over all samples, plus or times fixed numbers."""
    OTHER = enum.auto()
    """None of the above is proved."""


def is_mean_over_samples(loss: Callable[[Any, Any], Any], data: Any, params: Any) -> bool:
    """Return whether a loss is proved to be the mean of its values on single samples.

    A sample is one row of every array in the data. The proof requires that every intermediate value
    has one number per sample, and that numbers of different samples are combined only by the sum
    over all of them.

    Args:
        loss: (params, data) -> scalar.
        data: any pytree of arrays; those with axes have n rows. Only shapes matter.
        params: the loss's first argument; only shapes matter.

    Returns:
        True if the proof succeeds. False does not mean that the loss is not a mean.

    Example:
        >>> from jaxscape.grid import sample_mean
        >>> data = jxs.Dataset([1.0, 2.0, 4.0], [2.0, 4.0, 7.0])
        >>> def mean(w, d): return jnp.mean(jnp.abs(w * d.x - d.y)) + w**2
        >>> def root(w, d): return jnp.sqrt(jnp.mean((w * d.x - d.y) ** 2))
        >>> [sample_mean.is_mean_over_samples(loss, data, 0.5) for loss in (mean, root)]
        [True, False]
    """
    leaves = [leaf for leaf in jax.tree.leaves(data) if jnp.ndim(leaf)]
    lengths = {jnp.shape(leaf)[0] for leaf in leaves}
    if len(lengths) != 1 or lengths & {0, 1}:
        return False
    (n,) = lengths
    on_all = jax.make_jaxpr(loss)(params, data)
    try:
        on_one = jax.make_jaxpr(loss)(params, jax.tree.map(_first_sample, data))
    except Exception:
        # The loss does not accept a single sample, so nothing can be proved.
        return False
    kinds = [Kind.FIXED] * len(jax.tree.leaves(params))
    kinds += [Kind.PER_SAMPLE if jnp.ndim(leaf) else Kind.FIXED for leaf in jax.tree.leaves(data)]
    return _Proof(n).outputs(on_all, on_one, kinds) == [Kind.MEAN]


def _first_sample(leaf: Any) -> Any:
    if not jnp.ndim(leaf):
        return leaf
    return jax.ShapeDtypeStruct((1, *jnp.shape(leaf)[1:]), leaf.dtype)


class _Proof:
    """Find the kind of each value of a computation, traced on all n samples and on one sample.

    Names that start with `on_all` and `on_one` belong to these two traces.
    """

    def __init__(self, n: int):
        self.n, self.equations = n, 0

    def outputs(self, on_all: ClosedJaxpr, on_one: ClosedJaxpr, kinds: list[Kind]) -> list[Kind]:
        """Return the kinds of the outputs, given those of the inputs."""
        self.equations += sum(1 for _ in equations(on_all))
        try:
            return self._outputs(on_all, on_one, kinds)
        except MismatchError:
            return [Kind.OTHER] * len(on_all.jaxpr.outvars)

    def _outputs(self, on_all: ClosedJaxpr, on_one: ClosedJaxpr, kinds: list[Kind]) -> list[Kind]:
        # A loss that prints would print once for each sample.
        if on_all.jaxpr.effects or self.equations > _MAX_EQUATIONS:
            raise MismatchError
        consts = on_all.consts, on_one.consts
        if len(consts[0]) != len(consts[1]) or any(map(operator.is_not, *consts)):
            raise MismatchError
        outputs = interpret_both(on_all, on_one, kinds, self._rule, lambda _: Kind.FIXED)
        check_equal_literals(on_all.jaxpr.outvars, on_one.jaxpr.outvars)
        return outputs

    def _rule(self, on_all: JaxprEqn, on_one: JaxprEqn, kinds: list[Kind]) -> list[Kind]:
        """Return the kinds of an equation's outputs, given those of its inputs."""
        divisors = literals(on_all.invars), literals(on_one.invars)
        if on_all.primitive.name == "div" and kinds == [Kind.SUM, Kind.FIXED] and divisors[0]:
            # Sums are scalars, and so are their divisors. A mean over n samples divides by n times
            # the divisor of the same loss on one sample.
            ((of_all,), (of_one,)) = divisors
            return [Kind.MEAN if of_all == self.n * of_one else Kind.OTHER]
        check_equal_literals(on_all.invars, on_one.invars)
        # A loss under `jax.checkpoint` is computed in tiles.
        if on_all.primitive.name not in CHECKPOINTS:
            called, called_on_one = called_jaxpr(on_all), called_jaxpr(on_one)
            if called is not None and called_on_one is not None:
                return self.outputs(called, called_on_one, kinds)
        return [self._output(on_all, on_one, kinds)] * len(on_all.outvars)

    def _output(self, on_all: JaxprEqn, on_one: JaxprEqn, kinds: list[Kind]) -> Kind:
        name, shape = on_all.primitive.name, avals(on_all.outvars)[0].shape
        present = set(kinds)
        fixed_are_scalars = all(
            aval.shape == ()
            for aval, kind in zip(avals(on_all.invars), kinds, strict=True)
            if kind is Kind.FIXED
        )
        # On one sample, the output must be one number; a constant of n numbers keeps its length.
        size_on_one = math.prod(avals(on_one.outvars)[0].shape)
        is_one_per_sample = (
            shape[:1] == (self.n,) and math.prod(shape) == self.n and size_on_one == 1
        )
        # The parameters of reshapes and sums are shapes, which differ for one sample: do not
        # compare them.
        if (
            name in RESHAPES
            and is_one_per_sample
            and fixed_are_scalars
            and present < {Kind.FIXED, Kind.PER_SAMPLE}
        ):
            return Kind.PER_SAMPLE
        if name == "reduce_sum" and present == {Kind.PER_SAMPLE} and shape == ():
            return Kind.SUM
        if Kind.OTHER in present or str(on_all.params) != str(on_one.params):
            return Kind.OTHER
        if present == {Kind.FIXED}:
            return Kind.FIXED if name in CHEAP else Kind.OTHER
        if present <= {Kind.FIXED, Kind.PER_SAMPLE}:
            elementwise = name in ELEMENTWISE and is_one_per_sample and fixed_are_scalars
            return Kind.PER_SAMPLE if elementwise else Kind.OTHER
        return _combine(name, kinds) if fixed_are_scalars else Kind.OTHER


def check_equal_literals(atoms: Any, others: Any) -> None:
    """Raise an error unless both computations use the same literal numbers."""
    if not all(itertools.starmap(_are_equal, zip(literals(atoms), literals(others), strict=True))):
        raise MismatchError


def _are_equal(one: Any, two: Any) -> bool:
    # Literals may also be arrays.
    return one is two or (np.shape(one) == np.shape(two) == () and bool(one == two))


def _combine(name: str, kinds: list[Kind]) -> Kind:
    """Return the kind of a linear combination of sums, or of means and fixed numbers."""
    present = set(kinds)
    if name == "neg" and len(present) == 1:
        return kinds[0]
    if name in ("add", "sub"):
        if present == {Kind.SUM}:
            return Kind.SUM
        return Kind.MEAN if present <= {Kind.MEAN, Kind.FIXED} else Kind.OTHER
    if name == "mul" and Kind.FIXED in present:
        return (present - {Kind.FIXED}).pop()
    if name == "div" and kinds[1] is Kind.FIXED:
        return kinds[0]
    return Kind.OTHER
