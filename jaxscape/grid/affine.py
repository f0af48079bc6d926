"""What of a loss is affine in a plane's coordinates, computed once for all cells.

The first layer's `x @ (W + a·U + b·V)` is `x @ W + a·(x @ U) + b·(x @ V)`: three products for a
whole grid, and two multiply-adds a value for each cell. What depends on one coordinate alone is so
split in the other. Nothing is sampled: the computation is read equation by equation.

Maxima over windows of an array, as compilers compute them fast.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal

from jaxscape._util.pytree import is_array, is_none
from jaxscape.planes.plane import Plane

# Multiply-adds of a product's value that are worth two, and the reading of three arrays, in their
# place: from the cache, and from beyond it. Convolutions are slower, and worth it in any case.
_WORTH_SPLITTING, _WORTH_READING = 8, 64
# Coordinates in float16 would overflow where the weights that they make up do not.
_PRECISIONS = ("float32", "float64")
_LINEAR = frozenset(
    ("broadcast_in_dim", "neg", "reduce_sum", "reshape", "rev", "slice", "squeeze", "transpose")
)
_PRODUCTS = frozenset(("mul", "dot_general", "conv_general_dilated"))
_CALLS = frozenset(("closed_call", "jit", "pjit"))

Pair = tuple[bool, bool]
_NEITHER: Pair = (False, False)


class Form(NamedTuple):
    """A value constant + a·slopes[0] + b·slopes[1]; its arrays are None where not computed."""

    constant: Any
    slopes: tuple[Any, Any] = (None, None)
    along: Pair = _NEITHER
    """Along which coordinates it has a slope."""
    depends: Pair = _NEITHER
    """On which coordinates its constant and slopes depend, none of them one that it slopes in."""
    given: bool = False
    """Whether its arrays are there without anything computed."""


def split(
    function: Callable[[Any, Any], jax.Array],
    plane: Plane,
    data: Any,
    dtype: Any,
    cached: int,
    most: int | None = None,
) -> tuple[Any, Callable[[Any, jax.Array, jax.Array], jax.Array]]:
    """A function of a plane's parameters, as what is shared by all cells and what is not.

    Args:
        function: (params, data) -> array.
        plane: where the parameters lie.
        data: what the function takes.
        dtype: of the coordinates.
        cached: bytes kept for all cells, up to which all that is shared saves time.
        most: bytes that may be kept for what saves time nevertheless; None for no more.

    Returns:
        Arrays, and a function of them and scalar coordinates: `cell(shared, a, b)` is
        `function(plane.at(a, b), data)`, but for rounding.
    """

    def plain(shared: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        return function(plane.at(a, b), data)

    dtype = jnp.dtype(dtype)
    if dtype.name not in _PRECISIONS:
        return (), plain
    # Leaves that are not moved are those of the origin, whatever they are.
    trees = [jax.tree.flatten(t, is_leaf=is_none) for t in (plane.origin, plane.u, plane.v)]
    leaves, structure = trees[0]
    seeds = [
        _Seed(origin, u, v, dtype)
        for origin, u, v in zip(*(tree[0] for tree in trees), strict=True)
    ]
    traced = [k for k, leaf in enumerate(leaves) if is_array(leaf)]

    def of_arrays(arrays: Sequence[Any], data: Any) -> jax.Array:
        here = dict(zip(traced, arrays, strict=True))
        params = [here.get(k, leaf) for k, leaf in enumerate(leaves)]
        return function(jax.tree.unflatten(structure, params), data)

    closed = jax.make_jaxpr(of_arrays)([seeds[k].shape() for k in traced], data)
    inputs = [Form(x, given=True) for x in jax.tree.leaves(data)]

    def run(walk: "_Walk") -> Form:
        arguments = [walk.seed(seeds[k]) for k in traced] + inputs
        constants = [Form(x, given=True) for x in closed.consts]
        (out,) = walk.through(closed.jaxpr, constants, arguments)
        return walk.crossed(walk.settled(out))

    def record(least: int) -> list[Any]:
        recording = _Walk(None, None, None, least)
        run(recording)
        return recording.shared

    for least, bytes_kept in ((_WORTH_SPLITTING, cached), (_WORTH_READING, most or 0)):
        # By their shapes first: what does not fit is not to be part of the computation.
        shapes = jax.tree.leaves(jax.eval_shape(functools.partial(record, least)))
        if not shapes or sum(x.size * x.dtype.itemsize for x in shapes) > bytes_kept:
            continue

        def cell(shared: Any, a: jax.Array, b: jax.Array, least: int = least) -> jax.Array:
            return run(_Walk(a, b, iter(shared), least)).constant

        return record(least), cell
    return (), plain


class _Seed(NamedTuple):
    """A leaf of the parameters, its directions, and the dtype of the coordinates."""

    origin: Any
    u: Any
    v: Any
    dtype: Any

    @property
    def along(self) -> Pair:
        return self.u is not None, self.v is not None

    @property
    def is_form(self) -> bool:
        """Whether what is moved are arrays of the coordinates' dtype."""
        arrays = [leaf for leaf in self[:3] if leaf is not None]
        return all(getattr(x, "dtype", None) == self.dtype and jnp.ndim(x) > 0 for x in arrays)

    def shape(self) -> Any:
        """What the leaf is like where it is moved."""
        if not any(self.along):
            return self.origin
        moved = (x for x in self[:3] if x is not None)
        zero = jax.ShapeDtypeStruct((), self.dtype)
        return jax.ShapeDtypeStruct(jnp.shape(self.origin), jnp.result_type(zero, *moved))


class _Walk:
    """One way through a computation: first through what is shared, then through the rest."""

    def __init__(self, a: Any, b: Any, shared: Any, least: int):
        self.coordinates, self.least = (a, b), least
        self.recording = shared is None
        self.shared: Any = [] if shared is None else shared

    def seed(self, seed: _Seed) -> Form:
        """A parameter's form."""
        steps = (seed.u, seed.v)
        if seed.is_form or not any(seed.along):
            return Form(seed.origin, steps, seed.along, given=True)
        value = None
        if not self.recording:
            value = seed.origin
            for coordinate, step in zip(self.coordinates, steps, strict=True):
                value = value if step is None else value + coordinate * step
        return Form(value, depends=seed.along)

    def through(self, jaxpr: Any, constants: list[Form], arguments: list[Form]) -> list[Form]:
        """The outputs of a computation."""
        known: dict[Any, Form] = {}
        variables = [*getattr(jaxpr, "constvars", ()), *jaxpr.invars]
        known |= zip(variables, [*constants, *arguments], strict=True)

        def read(variable: Any) -> Form:
            if isinstance(variable, Literal):
                return Form(variable.val, given=True)
            return known[variable]

        for equation in jaxpr.eqns:
            forms = [read(variable) for variable in equation.invars]
            if any(any(f.depends) for f in forms):
                forms = [self.crossed(f) for f in forms]
                # What was shared once is not shared again.
                known |= {
                    variable: form
                    for variable, form in zip(equation.invars, forms, strict=True)
                    if not isinstance(variable, Literal)
                }
            outputs = self._outputs(equation, forms)
            known |= zip(equation.outvars, outputs, strict=True)
        return [read(variable) for variable in jaxpr.outvars]

    def _outputs(self, equation: Any, forms: list[Form]) -> list[Form]:
        name = equation.primitive.name
        sloped = [f for f in forms if any(f.along)]
        if name in _CALLS and (sloped or len({f.depends for f in forms}) > 1):
            closed = equation.params["jaxpr"]
            constants = [Form(x, given=True) for x in getattr(closed, "consts", ())]
            return self.through(getattr(closed, "jaxpr", closed), constants, forms)
        if sloped:
            if name in _LINEAR:
                return [self._linear(equation, *forms)]
            if name in ("add", "sub"):
                return [self._sum(equation, *forms)]
            if name == "div" and not any(forms[1].along):
                return [self._product(equation, *forms)]
            if name in _PRODUCTS and len(sloped) == 1 and _worth(equation, self.least):
                return [self._product(equation, *forms)]
        forms = [self.settled(f) for f in forms]
        # What was settled may depend on coordinates on which nothing here did before.
        depends = _either(f.depends for f in forms)
        if any(depends):
            forms = [self.crossed(f) for f in forms]
        values = self._bound(equation, depends, [f.constant for f in forms])
        return [Form(value, depends=depends) for value in values]

    def _bound(self, equation: Any, depends: Pair, arrays: list[Any]) -> list[Any]:
        if any(depends) == self.recording:
            return [None] * len(equation.outvars)
        params = equation.primitive.get_bind_params(equation.params)
        # Some versions of JAX hand functions over apart.
        functions, params = params if isinstance(params, tuple) else ((), params)
        if equation.primitive.name == "reduce_window_max":
            return [largest(*arrays, **params)]
        found = equation.primitive.bind(*functions, *arrays, **params)
        return list(found) if equation.primitive.multiple_results else [found]

    def _linear(self, equation: Any, form: Form) -> Form:
        def part(array: Any, there: bool = True) -> Any:
            return self._bound(equation, form.depends, [array])[0] if there else None

        slopes = tuple(part(s, there) for s, there in zip(form.slopes, form.along, strict=True))
        return Form(part(form.constant), slopes, form.along, form.depends)  # type: ignore[arg-type]

    def _sum(self, equation: Any, first: Form, second: Form) -> Form:
        depends = _either((first.depends, second.depends))
        first, second = self._folded(first, depends), self._folded(second, depends)
        along = _either((first.along, second.along))

        def both(p: Any, q: Any, in_p: bool, in_q: bool) -> Any:
            if any(depends) == self.recording or not (in_p or in_q):
                return None
            if in_p and in_q:
                return self._bound(equation, depends, [p, q])[0]
            lone = p if in_p else (-q if equation.primitive.name == "sub" else q)
            # An axis of one value is spread by the addition itself.
            return jnp.broadcast_to(lone, equation.outvars[0].aval.shape)

        parts = zip(first.slopes, second.slopes, first.along, second.along, strict=True)
        slopes = tuple(itertools.starmap(both, parts))
        constant = both(first.constant, second.constant, True, True)
        return Form(constant, slopes, along, depends)  # type: ignore[arg-type]

    def _product(self, equation: Any, *factors: Form) -> Form:
        """A product, or a quotient, whose factors do not both have slopes."""
        depends = _either(f.depends for f in factors)
        first, second = (self._folded(f, depends) for f in factors)
        along = _either((first.along, second.along))
        turned = any(second.along)

        def times(p: Any, q: Any) -> Any:
            return self._bound(equation, depends, [p, q])[0]

        def slope(k: int) -> Any:
            if not along[k]:
                return None
            parts = (first.constant, second.slopes[k]) if turned else (first.slopes[k], None)
            return times(parts[0], parts[1] if turned else second.constant)

        return Form(times(first.constant, second.constant), (slope(0), slope(1)), along, depends)

    def _folded(self, form: Form, coordinates: Pair) -> Form:
        """The same value without slopes along some coordinates, on which it then depends."""
        folded = (form.along[0] and coordinates[0], form.along[1] and coordinates[1])
        if not any(folded):
            return self.crossed(form) if any(coordinates) else form
        form = self.crossed(form)
        constant, slopes = form.constant, list(form.slopes)
        for k in (0, 1):
            if folded[k]:
                if not self.recording:
                    constant = constant + self.coordinates[k] * slopes[k]
                slopes[k] = None
        along = (form.along[0] and not folded[0], form.along[1] and not folded[1])
        constant = None if self.recording else constant
        return Form(constant, (slopes[0], slopes[1]), along, _either((form.depends, folded)))

    def settled(self, form: Form) -> Form:
        """The same value without slopes."""
        return self._folded(form, form.along) if any(form.along) else form

    def crossed(self, form: Form) -> Form:
        """A value that no cell differs in, for use in what cells differ in: it is shared."""
        if form.given or any(form.depends):
            return form
        if self.recording:
            self.shared.append((form.constant, form.slopes))
            return form._replace(given=True)
        constant, slopes = next(self.shared)
        return form._replace(constant=constant, slopes=slopes, given=True)


def _worth(equation: Any, least: int) -> bool:
    """Whether a product takes so many multiply-adds a value that it is worth splitting."""
    shapes = [variable.aval.shape for variable in equation.invars]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        added = [shapes[0][k] for k in contracted]
    elif equation.primitive.name == "conv_general_dilated":
        out = equation.params["dimension_numbers"].rhs_spec[0]
        added, least = [n for k, n in enumerate(shapes[1]) if k != out], _WORTH_SPLITTING
    else:
        return True
    return math.prod(added) >= least


def _either(pairs: Any) -> Pair:
    pairs = list(pairs)
    return any(p[0] for p in pairs), any(p[1] for p in pairs)


# Slices that a maximum is taken of; larger windows stay as they are.
_MOST_SLICES = 16


def largest(x: jax.Array, **params: Any) -> jax.Array:
    """The largest value in every window, as maxima of slices.

    XLA goes through a window's values one by one on a processor; slices are read along the array,
    and fused with what they are of. Values and derivatives are those of the operation, to the bit.

    Args:
        x: an array.
        params: of `reduce_window_max`, as JAX traces `lax.reduce_window` with `lax.max`.

    Returns:
        What `reduce_window_max` would.
    """

    def plain(x: jax.Array) -> jax.Array:
        return lax.reduce_window_max_p.bind(x, **params)

    windows, strides, dilations = (
        params[name] for name in ("window_dimensions", "window_strides", "window_dilation")
    )
    # How far the first values of an axis' windows reach.
    ends = [
        n + sum(padding) - (window - 1) * dilation
        for n, padding, window, dilation in zip(
            x.shape, params["padding"], windows, dilations, strict=True
        )
    ]
    slices = sum(window for window in windows if window > 1)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    # Booleans have no lowest number to pad with.
    known = floating or jnp.issubdtype(x.dtype, jnp.integer)
    if not known or slices > _MOST_SLICES or min(ends) < 1 or max(params["base_dilation"]) > 1:
        return plain(x)

    @jax.custom_jvp
    def sliced(x: jax.Array) -> jax.Array:
        lowest = -jnp.inf if floating else jnp.iinfo(x.dtype).min
        edges = [(low, high, 0) for low, high in params["padding"]]
        x = lax.pad(x, jnp.asarray(lowest, x.dtype), edges)
        for axis, (window, stride, dilation) in enumerate(
            zip(windows, strides, dilations, strict=True)
        ):
            parts = (
                lax.slice_in_dim(x, start, start + ends[axis], stride, axis)
                for start in range(0, window * dilation, dilation)
            )
            x = functools.reduce(lax.max, parts)
        return x

    # The derivative of a maximum goes to the first of equals, and not to all of them.
    sliced.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return sliced(x)
