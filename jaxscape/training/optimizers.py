"""Optax optimizers: check that they descend, set their hyperparameters, call their update."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscape._util.pytree import Params, is_traced

# Several trial steps are needed: sharpness-aware minimization first ascends, then descends.
_TRIAL_STEPS = 64
# Gradients of trial steps that show whether updates are linear in the gradients. They begin with 0,
# because weight decay does not depend on the gradient.
_TRIAL_SCALES = (0.0, 0.01, -1.0, 30.0, 0.0, -100.0, 0.0)
_LINEARITY_TOL = 1e-3


def check_optimizer(
    argument: str,
    optimizer: Any,
    params: Params,
    hyperparameters: Mapping[str, Any],
) -> None:
    """Check that an optimizer descends and has the given hyperparameters.

    Args:
        argument: the name of the optimizer's argument in messages.
        optimizer: the optimizer to check.
        params: a pytree of arrays; only their shapes and dtypes are used.
        hyperparameters: values by name, scalars or arrays, which may be traced.

    Raises:
        TypeError: `optimizer` is not an optax gradient transformation.
        ValueError: The optimizer lacks a hyperparameter or a schedule sets it, its updates are not
            finite, or it ascends.
    """
    if not (
        callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))
    ):
        raise TypeError(
            f"{argument}: expected an optax gradient transformation such as optax.sgd(0.01), "
            f"got {optimizer!r}"
        )
    leaves, structure = jax.tree.flatten(params)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    fault, constants, scheduled = _inspect(optimizer, structure, shapes)
    for name in hyperparameters:
        if name in scheduled:
            raise ValueError(
                f"hyperparameters: expected constants of the {argument}, got {name!r}, which "
                "follows a schedule"
            )
        if name not in constants:
            has = f"it has {sorted(constants)}" if constants else "it has none"
            raise ValueError(
                f"hyperparameters: expected names that optax.inject_hyperparams gave the "
                f"{argument}, got {name!r}; {has}"
            )
    if fault:
        raise ValueError(f"{argument}: expected a finite learning rate of 0 or more, {fault}")
    # A learning rate can have any name, such as that of a layer, and other hyperparameters may be
    # negative. Therefore run the optimizer with each negative value.
    for name, value in hyperparameters.items():
        if not is_traced(value) and (lowest := float(np.min(value))) < 0:
            params = jax.tree.unflatten(structure, shapes)
            if fault := find_update_fault(optimizer, params, {name: lowest}):
                raise ValueError(
                    f"hyperparameters[{name!r}]: expected values with which the {argument} "
                    f"descends, at {lowest:g} {fault}"
                )


@functools.lru_cache(maxsize=256)
def _inspect(
    optimizer: Any, structure: Any, shapes: tuple[jax.ShapeDtypeStruct, ...]
) -> tuple[str | None, set[str], set[str]]:
    """Return an optimizer's fault, and the names of its constant and scheduled hyperparameters."""
    params = jax.tree.unflatten(structure, shapes)
    fault = find_update_fault(optimizer, params, {})
    return fault, *injected_names(optimizer, params)


def all_finite(tree: Any) -> jax.Array:
    """Return whether all numbers of a pytree are finite, () bool."""
    return functools.reduce(
        jnp.logical_and, [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    )


def _is_injected(node: Any) -> bool:
    """Return whether a node of an optimizer's state comes from `optax.inject_hyperparams`."""
    return hasattr(node, "hyperparams")


def _injected_states(optimizer_state: Any) -> list[Any]:
    """Return the states of `optax.inject_hyperparams` at all depths, outer ones first."""
    states = []
    for node in jax.tree.leaves(optimizer_state, is_leaf=_is_injected):
        if _is_injected(node):
            states += [node, *_injected_states(node.inner_state)]
    return states


def set_hyperparameters(optimizer_state: Any, values: Mapping[str, Any], dtype: Any) -> Any:
    """Return an optimizer's state with the given hyperparameters.

    Args:
        optimizer_state: the state from `optimizer.init`.
        values: hyperparameters by name. Each gets the dtype of the value that it replaces.
        dtype: replaces an integer dtype, such as that of a learning rate of 1.
    """

    def convert(value: Any, old: Any) -> jax.Array:
        is_floating = jnp.issubdtype(jnp.result_type(old), jnp.floating)
        return jnp.asarray(value, jnp.result_type(old) if is_floating else dtype)

    def fill(node: Any) -> Any:
        if not _is_injected(node):
            return node
        hyperparams = {
            name: convert(values[name], old) if name in values else old
            for name, old in node.hyperparams.items()
        }
        inner = set_hyperparameters(node.inner_state, values, dtype)
        return node._replace(hyperparams=hyperparams, inner_state=inner)

    return jax.tree.map(fill, optimizer_state, is_leaf=_is_injected)


def learning_rate(optimizer_state: Any, dtype: Any) -> jax.Array | None:
    """Return the learning rate in an optimizer's state; None unless there is exactly one."""
    rates = [
        node.hyperparams["learning_rate"]
        for node in _injected_states(optimizer_state)
        if "learning_rate" in node.hyperparams
    ]
    # The states of line searches have a field `learning_rate`.
    rates += [
        node.learning_rate
        for node in jax.tree.leaves(
            optimizer_state, is_leaf=lambda node: hasattr(node, "learning_rate")
        )
        if hasattr(node, "learning_rate")
    ]
    return jnp.asarray(rates[0], dtype) if len(rates) == 1 else None


def stability_factor(
    optimizer: optax.GradientTransformation, optimizer_state: Any, params: Params, dtype: Any
) -> jax.Array | None:
    """Return the largest product of learning rate and curvature at which an optimizer is stable.

    It is known for optimizers whose updates are -(learning rate)·e, with a combination of gradients
    e that does not change during training:

        e[t] = p·g[t] + q·h[t - 1],    h[t] = g[t] + b·h[t - 1].

    Gradient descent has p = 1 and q = 0, the heavy ball with momentum b has p = 1 and q = b, and
    Nesterov's method has p = 1 + b and q = b². With a product x of learning rate and curvature, the
    eigenvalues of a step on a quadratic are the roots of z² - (1 + b - p·x)·z + b - (p·b - q)·x.
    They lie in the unit circle until x reaches 2, 2·(1 + b) or 2·(1 + b) / (1 + 2·b).

    Optimizers are closures, so trial steps determine p, q and b, and whether the updates have this
    form for other gradients and parameters.

    Args:
        optimizer: an optax gradient transformation.
        optimizer_state: its state before the first step, with hyperparameters.
        params: a pytree of arrays; only their shapes and dtypes are used.
        dtype: the dtype of the result.

    Returns:
        () the factor; NaN if the trial steps are not of this form. None if the state does not
        contain exactly one injected learning rate, or has counters or other schedules, with which
        later steps may differ from the trial steps.
    """
    injected = _injected_states(optimizer_state)
    with_rate = [node for node in injected if "learning_rate" in node.hyperparams]
    other_schedules = {name for node in injected for name in node.hyperparams_states}
    counters = [
        leaf
        for leaf in _leaves_of_inner_states(optimizer_state)
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    is_single = len(with_rate) == 1 and learning_rate(optimizer_state, dtype) is not None
    if not is_single or other_schedules - {"learning_rate"} or counters:
        return None
    # Derivatives of the factor are not defined, and must not reach the hyperparameters as NaN.
    optimizer_state = jax.lax.stop_gradient(optimizer_state)

    def run(value: float, scales: Sequence[float], p: Any, q: Any, b: Any) -> Any:
        """Take trial steps at parameters that all have one value.

        Returns:
            For each step, a parameter's gradient and change, the learning rate, the largest
            difference of changes from -(learning rate)·e, and the largest of these.
        """
        point = jax.tree.map(lambda leaf: jnp.full(leaf.shape, value, leaf.dtype), params)

        def step(carry: Any, inputs: Any) -> tuple[Any, tuple[Any, ...]]:
            (state, h), (k, scale) = carry, inputs
            # Powers of two that differ from parameter to parameter, with which p is exact.
            gradient = jax.tree.map(
                lambda leaf: (
                    (scale * jnp.exp2((jnp.arange(leaf.size) + k) % 3))
                    .reshape(leaf.shape)
                    .astype(leaf.dtype)
                ),
                params,
            )
            zero = jnp.zeros((), dtype)
            change, state = update(optimizer, gradient, state, point, zero, lambda _: zero)
            rate: Any = learning_rate(state, dtype)
            errors, sizes, first = [], [], None
            for g, last_h, moved in zip(*map(jax.tree.leaves, (gradient, h, change)), strict=True):
                expected = -rate * (p * g.astype(dtype) + q * last_h)
                errors.append(jnp.abs(moved.astype(dtype) - expected).max(initial=0))
                sizes.append(jnp.abs(expected).max(initial=0))
                if first is None and g.size:
                    first = g.ravel()[0].astype(dtype), moved.ravel()[0].astype(dtype)
            h = jax.tree.map(lambda g, last_h: g.astype(dtype) + b * last_h, gradient, h)
            largest = (functools.reduce(jnp.maximum, numbers) for numbers in (errors, sizes))
            return (state, h), (first, rate, *largest)

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), params)
        inputs = jnp.arange(len(scales)), jnp.array(scales, dtype)
        return jax.lax.scan(step, (optimizer_state, zeros), inputs)[1]

    # The response to a single gradient, which is not at the first step, because a learning rate may
    # be 0 there.
    (gradient, change), rate, _, _ = run(0, (0, 1, 0, 0), 0, 0, 0)
    p, q, next_q = -change[1:] / rate[1:] / gradient[1]
    b = jnp.where(q == 0, 0, next_q / jnp.where(q == 0, 1, q))

    _, _, error, size = run(1, _TRIAL_SCALES, p, q, b)
    epsilon = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(params))
    tolerance = max(_LINEARITY_TOL, 4 * epsilon)
    is_linear = jnp.all(error <= tolerance * jax.lax.cummax(size))

    # The bounds at which a root reaches -1, and at which the product of the roots does 1 or -1.
    at_minus_one = 2 * (1 + b) / (p * (1 + b) - q)
    slope = p * b - q
    product = jnp.where(slope > 0, 1 + b, b - 1) / jnp.where(slope == 0, 1, slope)
    bound = jnp.where(slope == 0, at_minus_one, jnp.minimum(at_minus_one, product))
    is_stable = (jnp.abs(b) < 1) & (p * (1 - b) + q > 0) & (at_minus_one > 0)
    return jnp.where(is_linear & is_stable, bound, jnp.nan).astype(dtype)


def adam_constants(optimizer_state: Any, dtype: Any) -> dict[str, jax.Array] | None:
    """Return the constants "b1", "b2", "eps" and "eps_root" of `optax.adam`.

    None unless `optax.inject_hyperparams` wraps an optimizer with these hyperparameters, a learning
    rate and no others. Other optimizers may have the same hyperparameters.
    """
    names = ("b1", "b2", "eps", "eps_root")
    injected = _injected_states(optimizer_state)
    if len(injected) != 1 or set(injected[0].hyperparams) != {"learning_rate", *names}:
        return None
    if set(injected[0].hyperparams_states) - {"learning_rate"}:
        return None
    return {name: jnp.asarray(injected[0].hyperparams[name], dtype) for name in names}


def _leaves_of_inner_states(optimizer_state: Any) -> list[Any]:
    """Return the leaves of a state without those that `optax.inject_hyperparams` added."""
    leaves: list[Any] = []
    for node in jax.tree.leaves(optimizer_state, is_leaf=_is_injected):
        leaves += _leaves_of_inner_states(node.inner_state) if _is_injected(node) else [node]
    return leaves


def injected_names(
    optimizer: optax.GradientTransformation, params: Params
) -> tuple[set[str], set[str]]:
    """Return the names of an optimizer's injected constants, and of its injected schedules."""
    states = _injected_states(jax.eval_shape(optimizer.init, params))
    scheduled = {name for node in states for name in node.hyperparams_states}
    return {name for node in states for name in node.hyperparams} - scheduled, scheduled


def find_update_fault(
    optimizer: optax.GradientTransformation, params: Params, hyperparameters: Mapping[str, float]
) -> str | None:
    """Return a message if an optimizer ascends or its update by a finite gradient is not finite.

    Optimizers are closures, so the test runs them: up to 64 steps along a gradient of ones. An
    optimizer ascends if the sum of all parameters stays above its initial value at every step. With
    hyperparameters, which may be those of one layer, the sum of any single leaf counts.
    """
    with jax.ensure_compile_time_eval():
        ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), params)

        def total(params: Params) -> jax.Array:
            return functools.reduce(jnp.add, [jnp.sum(leaf) for leaf in jax.tree.leaves(params)])

        def sums(params: Params) -> list[jax.Array]:
            if hyperparameters:
                return [jnp.sum(leaf) for leaf in jax.tree.leaves(params)]
            return [total(params)]

        dtype = jax.tree.leaves(ones)[0].dtype
        position = ones
        state = set_hyperparameters(optimizer.init(ones), hyperparameters, dtype)
        ascends = [True] * len(sums(ones))
        for _ in range(_TRIAL_STEPS):
            change, state = update(optimizer, ones, state, position, total(position), total)
            if not all_finite(change):
                return "got an update that is not finite from a gradient of ones"
            position = optax.apply_updates(position, change)
            now = zip(ascends, sums(position), sums(ones), strict=True)
            ascends = [so_far and bool(new > first) for so_far, new, first in now]
            if not any(ascends):
                return None
    return "got updates that ascend along a gradient of ones"


def update(
    optimizer: optax.GradientTransformation,
    gradient: Params,
    optimizer_state: Any,
    params: Params,
    value: jax.Array,
    function: Callable[[Params], jax.Array],
) -> tuple[Params, Any]:
    """Call an optimizer's update with the extra arguments that it accepts.

    Args:
        optimizer: an optax gradient transformation.
        gradient: the gradient at `params`.
        optimizer_state: the optimizer's state.
        params: the parameters.
        value: the loss at `params`.
        function: params -> loss, for optimizers with a line search.

    Returns:
        The change of the parameters and the new state.
    """
    extra = {
        "value": value,
        "grad": gradient,
        # optax's line search raises an error for a keyword argument that neither it nor this
        # function takes, so this function takes `grad_fn`.
        "value_fn": lambda params, grad_fn=None: function(params),
        "grad_fn": lambda params, _: jax.grad(function)(params),
    }
    accepted = inspect.signature(optimizer.update).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        extra = {name: value for name, value in extra.items() if name in accepted}
    return optimizer.update(gradient, optimizer_state, params, **extra)
