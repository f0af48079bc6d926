"""A loss that is a mean over samples, added up sample by sample in all cells at once.

Whether a loss is the mean over samples of what it is on each of them alone.

Its equations are read, nothing is sampled: of all samples and of one beside each other, so that a
number that comes from how many samples there are is not taken for a constant.
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
from jax.extend.core import Literal

from jaxscape.data.dataset import Dataset
from jaxscape.losses.checks import scalars
from jaxscape.losses.pointwise import PointwiseLoss
from jaxscape.losses.two_weights import TwoWeightNetwork
from jaxscape.planes.plane import Plane

# Samples whose errors are added in registers before the running sum of every cell is read and
# written once. Of 4, 8, 16, 24 on two cores, 8 was fastest at 1024 × 1024; compile time grows
# with it.
_UNROLLED_SAMPLES = 8
# A step has a fixed cost: on a small grid, several lanes of samples are added side by side, so
# that a step works on up to this many sums. From 16 × 16 to 256 × 256 cells none did better.
_SUMS_A_STEP = 32_768
# Numbers of a plane's origin and directions: what is done with parameters alone is done for every
# sample. With 128 in each a grid took 1.4 to 2.2 times as long as with 2, with 32 1.2 times.
_MOST_NUMBERS = 96


def is_summed(loss: Any, plane: Any, data: Any, dtype: Any) -> bool:
    """Whether a loss is known to be a mean over samples that is faster added up one by one.

    Args:
        loss: (params, data) -> scalar.
        plane, data: where and on what; shapes do.
        dtype: of the coordinates.
    """
    if isinstance(loss, PointwiseLoss):
        if not isinstance(data, Dataset):
            return False
        data, _ = _unweighted(data)
        if isinstance(loss.predict, TwoWeightNetwork):
            return True

    if sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(plane)) > _MOST_NUMBERS:
        return False

    def value(where: Any, data: Any) -> jax.Array:
        plane, a, b = where
        return scalars(loss(plane.at(a, b), data))

    coordinate = jax.ShapeDtypeStruct((), dtype)
    return is_mean_over_samples(value, data, (plane, coordinate, coordinate))


def _unweighted(data: Dataset) -> tuple[Dataset, jax.Array | None]:
    """Data whose samples count alike, and what they counted."""
    leaves, weight = (data.x, data.y, None), data.sample_weight
    return data.tree_unflatten(None, leaves), weight


def over_samples(loss: Callable, plane: Plane, a: jax.Array, b: jax.Array, data: Any) -> jax.Array:
    """The mean of a loss of each sample alone, samples outermost and cells innermost.

    The nested `vmap` of a mean reduces over samples inside every cell, which compilers vectorize
    badly; here every step adds a few samples' losses to all cells at once.
    """
    data, weight = _unweighted(data) if isinstance(loss, PointwiseLoss) else (data, None)
    # The whole data once, for its checks: its shapes are known here, its values are not needed.
    dtype = jax.eval_shape(lambda: loss(plane.at(a[0], b[0]), data)).dtype
    leaves, structure = jax.tree.flatten(data)
    varies = [leaf.ndim > 0 for leaf in leaves]
    columns = [leaf for leaf in leaves if leaf.ndim]
    n = len(columns[0])
    most_lanes = math.ceil(n / _UNROLLED_SAMPLES)
    lanes = min(max(1, _SUMS_A_STEP // (a.size * b.size)), most_lanes)
    # Blocks of about √steps steps are summed apart and then added: a single running sum of 3,000
    # float32 errors is off by 1.5e-6 of its value, sums of sums by 3e-7.
    steps = math.ceil(n / (lanes * _UNROLLED_SAMPLES))
    inner = math.isqrt(steps)
    shape = (math.ceil(steps / inner), inner, lanes, _UNROLLED_SAMPLES)
    counted = np.arange(math.prod(shape)).reshape(shape) < n

    def blocks(array):
        missing = math.prod(shape) - n
        padding = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding, mode="edge").reshape(*shape, *array.shape[1:])

    def add_samples(total, samples):
        columns, weight, counts = samples
        errors = []
        for k in range(_UNROLLED_SAMPLES):

            def error(a, b, k=k):
                column = iter(columns)
                sample = [
                    next(column)[k : k + 1] if varied else leaf
                    for leaf, varied in zip(leaves, varies, strict=True)
                ]
                return loss(plane.at(a, b), jax.tree.unflatten(structure, sample))

            at_all_cells = over_grid(error, a, b)
            if weight is not None:
                at_all_cells = weight[k] * at_all_cells
            # Not a factor 0, which would make NaN of an infinite error.
            errors.append(jnp.where(counts[k], at_all_cells, 0))
        return total + sum(errors[1:], errors[0]), None

    def add_block(total, block):
        block_sum, _ = jax.lax.scan(jax.checkpoint(jax.vmap(add_samples)), zeros, block)
        return total + block_sum, None

    zeros = jnp.zeros((lanes, a.size, b.size), dtype)
    samples = *jax.tree.map(blocks, (columns, weight)), counted
    total, _ = jax.lax.scan(add_block, zeros, samples)
    return total.sum(axis=0) / (n if weight is None else jnp.sum(weight))


def over_grid(cell: Callable, a: jax.Array, b: jax.Array) -> jax.Array:
    """`cell(a, b)` at every pair of coordinates, (n1, n2, ...)."""
    return jax.vmap(jax.vmap(cell, (None, 0)), (0, None))(a, b)


_ELEMENTWISE = (
    *("abs", "add", "add_any", "cbrt", "ceil", "clamp", "copy", "div", "floor", "integer_pow"),
    *("max", "min", "mul", "neg", "pow", "rem", "round", "rsqrt", "sign", "sqrt", "square", "sub"),
    *("exp", "exp2", "expm1", "log", "log1p", "logistic", "erf", "erf_inv", "erfc", "lgamma"),
    *("cos", "sin", "tan", "acos", "asin", "atan", "atan2", "digamma"),
    *("cosh", "sinh", "tanh", "acosh", "asinh", "atanh"),
    *("and", "not", "or", "xor", "eq", "ne", "ge", "gt", "le", "lt", "is_finite", "select_n"),
    *("convert_element_type", "stop_gradient"),
)
_MOVES = ("broadcast_in_dim", "reshape", "squeeze")
# Of parameters alone: what is dear is better done once for all samples.
_CHEAP = (
    *_ELEMENTWISE,
    *_MOVES,
    *("concatenate", "dot_general", "gather", "reduce_sum", "slice", "stack"),
)
_CALLS = ("checkpoint", "closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit")
# Each is traced and compiled once for each of the samples that go together.
_MOST_EQUATIONS = 200


class Kind(enum.Enum):
    """How a value depends on the samples."""

    FIXED = enum.auto()
    """Not at all."""
    EACH = enum.auto()
    """It holds a number for each, in order, which depends on that sample alone."""
    SUM = enum.auto()
    """It is a sum of numbers that depend on one sample each."""
    MEAN = enum.auto()
    OTHER = enum.auto()


def is_mean_over_samples(loss: Callable[[Any, Any], Any], data: Any, params: Any) -> bool:
    """Whether a loss is proved to be the mean of its values on one sample each.

    A sample is a row of every array of the data, and no sample's numbers meet another's before all
    are added up. What is computed with them is one number for each.

    Args:
        loss: (params, data) -> scalar.
        data: any pytree of arrays, those with axes all of n rows; shapes do.
        params: what else the loss takes; shapes do.

    Returns:
        False also where it is a mean and that is not seen.

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
    one = jax.tree.map(_first_sample, data)
    full = jax.make_jaxpr(loss)(params, data)
    try:
        alone = jax.make_jaxpr(loss)(params, one)
    except Exception:
        # It refuses one sample alone: whatever it says of that, nothing is proved.
        return False
    kinds = [Kind.FIXED] * len(jax.tree.leaves(params))
    kinds += [Kind.EACH if jnp.ndim(leaf) else Kind.FIXED for leaf in jax.tree.leaves(data)]
    return _Reading(n).outputs(full, alone, kinds) == [Kind.MEAN]


def _first_sample(leaf: Any) -> Any:
    if not jnp.ndim(leaf):
        return leaf
    return jax.ShapeDtypeStruct((1, *jnp.shape(leaf)[1:]), leaf.dtype)


class _Reading:
    """Of a computation on n samples, beside the same on one."""

    def __init__(self, n: int):
        self.n, self.equations = n, 0

    def outputs(self, full: Any, alone: Any, kinds: list[Kind]) -> list[Kind]:
        """What the outputs are, the inputs being of these kinds."""
        consts = [getattr(closed, "consts", ()) for closed in (full, alone)]
        first, second = (getattr(closed, "jaxpr", closed) for closed in (full, alone))
        unlike = [Kind.OTHER] * len(first.outvars)
        self.equations += len(first.eqns)
        if first.effects:
            # What it prints, it would print for each sample.
            return unlike
        if len(first.eqns) != len(second.eqns) or self.equations > _MOST_EQUATIONS:
            return unlike
        if len(consts[0]) != len(consts[1]) or any(map(operator.is_not, *consts)):
            return unlike
        inputs, others = ([*jaxpr.constvars, *jaxpr.invars] for jaxpr in (first, second))
        known = dict(zip(inputs, [Kind.FIXED] * len(consts[0]) + kinds, strict=True))
        twins = dict(zip(inputs, others, strict=True))

        def are_the_same(variables: Any, those: Any) -> bool:
            return len(variables) == len(those) and all(
                isinstance(two, Literal) if isinstance(one, Literal) else twins[one] is two
                for one, two in zip(variables, those, strict=True)
            )

        def kind(variable: Any) -> Kind:
            return Kind.FIXED if isinstance(variable, Literal) else known[variable]

        for one, two in zip(first.eqns, second.eqns, strict=True):
            if one.primitive is not two.primitive or not are_the_same(one.invars, two.invars):
                return unlike
            kinds, numbers = [kind(v) for v in one.invars], _numbers(one.invars, two.invars)
            if one.primitive.name == "div" and kinds == [Kind.SUM, Kind.FIXED] and numbers:
                # Of one sample it is a division by an nth.
                ((of_all, of_one),) = numbers  # a sum has no axes, and so has what divides it
                found = [Kind.MEAN if of_all == self.n * of_one else Kind.OTHER]
            elif not all(itertools.starmap(_are_equal, numbers)):
                return unlike
            else:
                found = self._outputs(one, two, kinds)
            known |= zip(one.outvars, found, strict=True)
            twins |= zip(one.outvars, two.outvars, strict=True)
        numbers = _numbers(first.outvars, second.outvars)
        same = are_the_same(first.outvars, second.outvars)
        if not same or not all(itertools.starmap(_are_equal, numbers)):
            return unlike
        return [kind(variable) for variable in first.outvars]

    def _outputs(self, equation: Any, other: Any, kinds: list[Kind]) -> list[Kind]:
        if equation.primitive.name in _CALLS:
            body = "jaxpr" if "jaxpr" in equation.params else "call_jaxpr"
            return self.outputs(equation.params[body], other.params[body], kinds)
        return [self._output(equation, other, kinds)] * len(equation.outvars)

    def _output(self, equation: Any, other: Any, kinds: list[Kind]) -> Kind:
        name, shape, there = equation.primitive.name, equation.outvars[0].aval.shape, set(kinds)
        fixed = [v.aval for v, k in zip(equation.invars, kinds, strict=True) if k is Kind.FIXED]
        are_numbers = all(aval.shape == () for aval in fixed)
        # One sample alone has one number: of a constant as long as the data it has all of them.
        alone = math.prod(other.outvars[0].aval.shape) == 1
        of_each = shape[:1] == (self.n,) and math.prod(shape) == self.n and alone
        # What these two are told of shapes is another for one sample.
        if name in _MOVES and of_each and are_numbers and there < {Kind.FIXED, Kind.EACH}:
            return Kind.EACH
        if name == "reduce_sum" and there == {Kind.EACH} and shape == ():
            return Kind.SUM
        if Kind.OTHER in there or str(equation.params) != str(other.params):
            return Kind.OTHER
        if there == {Kind.FIXED}:
            return Kind.FIXED if name in _CHEAP else Kind.OTHER
        if there <= {Kind.FIXED, Kind.EACH}:
            return Kind.EACH if name in _ELEMENTWISE and of_each and are_numbers else Kind.OTHER
        return _combined(name, kinds) if are_numbers else Kind.OTHER


def _numbers(variables: Any, those: Any) -> list[tuple[Any, Any]]:
    """The numbers among inputs or outputs, in the computation on n samples and on one."""
    both = zip(variables, those, strict=False)
    return [(one.val, getattr(two, "val", None)) for one, two in both if isinstance(one, Literal)]


def _are_equal(one: Any, two: Any) -> bool:
    # Constants may be arrays, too.
    return one is two or (np.shape(one) == np.shape(two) == () and bool(one == two))


def _combined(name: str, kinds: list[Kind]) -> Kind:
    """What comes of sums and means: linear combinations of sums, and of means and numbers."""
    there = set(kinds)
    if name == "neg" and len(there) == 1:
        return kinds[0]
    if name in ("add", "sub"):
        if there == {Kind.SUM}:
            return Kind.SUM
        return Kind.MEAN if there <= {Kind.MEAN, Kind.FIXED} else Kind.OTHER
    if name == "mul" and Kind.FIXED in there:
        return (there - {Kind.FIXED}).pop()
    if name == "div" and kinds[1] is Kind.FIXED:
        return kinds[0]
    return Kind.OTHER
