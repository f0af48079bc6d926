"""Prove that a function treats every sample separately, by reading its traced equations.

Only then do blocks of samples give the same values as all samples at once. Models that normalize by
the batch, sort it, or draw noise for all of it do not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxscape._util.jaxpr import (
    ALONG_ONE_AXIS,
    ELEMENTWISE,
    REDUCTIONS,
    WINDOWS,
    ClosedJaxpr,
    JaxprEqn,
    MismatchError,
    avals,
    called_jaxpr,
    constants,
    inner_jaxprs,
    interpret_both,
)
from jaxscape._util.pytree import is_traced
from jaxscape.grid.sample_mean import Kind, check_equal_literals

Axes = Sequence[int | None]
"""The samples' axis of each input or output; None for a value that does not depend on them."""


def treats_samples_separately(
    predict: Callable[[Any, Any], Any], params: Any, x: Any, size: int
) -> bool:
    """Return whether predictions for blocks of samples are proved to be those for all samples.

    The function is traced on all samples and on blocks. In both traces, the same operations must
    be applied, and each must keep the samples apart along one axis.

    Args:
        predict: (params, x) -> predictions, (n, ...).
        params: the function's first argument; only shapes matter.
        x: (n, ...) the inputs, any pytree of arrays; only shapes matter.
        size: the number of samples of a block, less than n. The last block may be smaller.

    Returns:
        True if the proof succeeds. False does not mean that the function mixes samples.

    Example:
        >>> from jaxscape.grid.separate_samples import treats_samples_separately
        >>> def layer(w, x): return jnp.tanh(x @ w)
        >>> def centered(w, x): return layer(w, x - x.mean())
        >>> shapes = jnp.ones((3, 2)), jnp.ones((50, 3))
        >>> [treats_samples_separately(f, *shapes, 20) for f in (layer, centered)]
        [True, False]
    """
    leaves = jax.tree.leaves(x)
    n = len(leaves[0])
    on_all = jax.make_jaxpr(predict)(params, x)
    kinds = [Kind.FIXED] * len(jax.tree.leaves(params)) + [Kind.PER_SAMPLE] * len(leaves)
    for count in {size, n % size} - {0}:
        block = jax.tree.map(
            lambda leaf, count=count: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype), x
        )
        try:
            on_block = jax.make_jaxpr(predict)(params, block)
        except Exception:
            # The function does not accept this number of samples, so nothing can be proved.
            return False
        proof = _Proof(n, count)
        try:
            outputs = proof.outputs(on_all, on_block, kinds)
            axes = map(proof.axis, avals(on_all.jaxpr.outvars), avals(on_block.jaxpr.outvars))
            if any(kind is not Kind.PER_SAMPLE for kind in outputs) or any(axes):
                return False
        except MismatchError:
            return False
    return True


class _Proof:
    """Find the kind of each value of a computation, traced on n samples and on a block of them.

    A value of kind `PER_SAMPLE` has one axis along which its shapes differ in the two traces. Entry
    k along it depends on sample k only, in the same way for every k.
    """

    def __init__(self, n: int, size: int):
        self.sizes = n, size

    def outputs(self, on_all: ClosedJaxpr, on_block: ClosedJaxpr, kinds: list[Kind]) -> list[Kind]:
        """Return the kinds of the outputs, given those of the inputs."""
        # An effect, such as writing to a mutable array, may carry values past the equations.
        if on_all.jaxpr.effects or not _are_equal(on_all.consts, on_block.consts):
            raise MismatchError
        outputs = interpret_both(on_all, on_block, kinds, self._rule, lambda _: Kind.FIXED)
        check_equal_literals(on_all.jaxpr.outvars, on_block.jaxpr.outvars)
        return outputs

    def axis(self, on_all: Any, on_block: Any) -> int | None:
        """Return the axis along which the shapes in both traces differ; None if they are equal."""
        shapes = on_all.shape, on_block.shape
        if len(shapes[0]) != len(shapes[1]):
            raise MismatchError
        pairs = list(zip(*shapes, strict=True))
        differing = [k for k, (one, other) in enumerate(pairs) if one != other]
        if not differing:
            return None
        if [pairs[k] for k in differing] != [self.sizes]:
            raise MismatchError
        return differing[0]

    def _rule(self, on_all: JaxprEqn, on_block: JaxprEqn, kinds: list[Kind]) -> list[Kind]:
        """Return the kinds of an equation's outputs, given those of its inputs."""
        check_equal_literals(on_all.invars, on_block.invars)
        called, called_on_block = called_jaxpr(on_all), called_jaxpr(on_block)
        if called is not None and called_on_block is not None:
            return self.outputs(called, called_on_block, kinds)
        return [self._output(on_all, on_block, kinds)] * len(on_all.outvars)

    def _output(self, on_all: JaxprEqn, on_block: JaxprEqn, kinds: list[Kind]) -> Kind:
        if Kind.OTHER in kinds:
            return Kind.OTHER
        try:
            inputs, outputs = (
                list(map(self.axis, avals(one), avals(other)))
                for one, other in (
                    (on_all.invars, on_block.invars),
                    (on_all.outvars, on_block.outvars),
                )
            )
        except MismatchError:
            return Kind.OTHER
        if not any(kind is Kind.PER_SAMPLE for kind in kinds):
            if outputs and outputs.count(None) == len(outputs) and _same(on_all, on_block):
                return Kind.FIXED
            # A fixed value that is repeated for every sample.
            repeats = on_all.primitive.name == "broadcast_in_dim"
            return Kind.PER_SAMPLE if repeats and _same(on_all, on_block, "shape") else Kind.OTHER
        if None in outputs:
            return Kind.OTHER
        keeps = self._keeps_samples_apart(on_all, on_block, inputs, outputs[0])
        return Kind.PER_SAMPLE if keeps else Kind.OTHER

    def _keeps_samples_apart(
        self, on_all: JaxprEqn, on_block: JaxprEqn, axes: Axes, output: Any
    ) -> bool:
        """Return whether entry k of the output depends on entries k of the inputs only.

        Args:
            on_all: the equation on all samples.
            on_block: the same equation on a block.
            axes: the samples' axis of each input.
            output: the samples' axis of the first output.
        """
        name, params = on_all.primitive.name, on_all.params
        shapes = [aval.shape for aval in avals(on_all.invars)]
        output_shape = avals(on_all.outvars)[0].shape
        first = axes[0]
        if name in ("reshape", "squeeze", "expand_dims"):
            # The row-major order stays.
            before = math.prod(shapes[0][:first]), math.prod(output_shape[:output])
            permuted = name == "reshape" and params["dimensions"] is not None
            return before[0] == before[1] and not permuted
        if name == "broadcast_in_dim":
            kept = params["broadcast_dimensions"]
            return _same(on_all, on_block, "shape") and kept[first] == output
        if name == "slice":
            # Along the samples' axis, the sizes show that all of them are taken, in order.
            return _same(on_all, on_block, "limit_indices") and first == output
        if name == "gather" and first is not None:
            numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
            indexed = (
                *numbers.collapsed_slice_dims,
                *numbers.start_index_map,
                *numbers.operand_batching_dims,
            )
            others = list(on_block.params["slice_sizes"])
            others[first] = sizes[first]
            return (
                axes[1] is None
                and first not in indexed
                and sizes[first] == self.sizes[0]
                and others == list(sizes)
                and _same(on_all, on_block, "slice_sizes")
            )
        if not _same(on_all, on_block):
            return False
        if name in ELEMENTWISE:
            return all(
                shape == () or (shape[output] == 1 if axis is None else axis == output)
                for axis, shape in zip(axes, shapes, strict=True)
            )
        if name in REDUCTIONS:
            return first not in params["axes"]
        if name in ALONG_ONE_AXIS:
            axis = params[ALONG_ONE_AXIS[name]]
            return all(one == first for one in axes) and axis != first
        if name == "stack":
            return None not in axes
        if name == "rev":
            return first not in params["dimensions"]
        if name == "transpose":
            return params["permutation"][output] == first
        if name == "pad":
            return axes[1] is None and params["padding_config"][first] == (0, 0, 0)
        if name == "gather":  # From a table that does not depend on the samples.
            return axes[1] != len(shapes[1]) - 1
        if name == "dot_general":
            contracted, _ = params["dimension_numbers"]
            return all(axis not in dims for axis, dims in zip(axes, contracted, strict=True))
        if name == "conv_general_dilated":
            of_samples = params["dimension_numbers"].lhs_spec[0]
            return first == of_samples and axes[1] is None and params["batch_group_count"] == 1
        if name in WINDOWS:
            return (params["window_dimensions"][first], params["padding"][first]) == (1, (0, 0))
        return False


def _same(one: JaxprEqn, other: JaxprEqn, *ignored: str) -> bool:
    """Return whether two equations have the same parameters, except for those ignored."""
    texts = [
        str({name: value for name, value in equation.params.items() if name not in ignored})
        for equation in (one, other)
    ]
    # The text of an inner jaxpr does not show its arrays.
    arrays = [
        [c for j in inner_jaxprs(equation) for c in constants(j)] for equation in (one, other)
    ]
    return texts[0] == texts[1] and _are_equal(*arrays)


def _are_equal(arrays: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(arrays) == len(others) and all(
        one is two
        or (
            not is_traced(one, two)
            and not jax.dtypes.issubdtype(one.dtype, jax.dtypes.extended)
            and one.dtype == two.dtype
            and np.array_equal(one, two)
        )
        for one, two in zip(arrays, others, strict=True)
    )
