"""Optax optimizers: whether they descend, what they can be set to, their update."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# Sharpness-aware minimization climbs first, for as many steps as it is told, and comes back.
_TRIAL_STEPS = 64


def check_optimizer(where: str, optimizer: Any, params: Any, values: Mapping[str, Any]) -> None:
    """Refuse what is no optimizer, climbs, or lacks a hyperparameter that is given by name."""
    if not (
        callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))
    ):
        raise TypeError(
            f"{where}: expected an optax gradient transformation such as optax.sgd(0.01), "
            f"got {optimizer!r}"
        )
    leaves, structure = jax.tree.flatten(params)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    fault, constant, scheduled = _facts(optimizer, structure, shapes)
    for name in values:
        if name in scheduled:
            raise ValueError(
                f"hyperparameters: expected constants of the {where}, but {name!r} follows a "
                "schedule"
            )
        if name not in constant:
            has = f"it has {sorted(constant)}" if constant else "it has none"
            raise ValueError(
                f"hyperparameters: expected names that optax.inject_hyperparams gave the "
                f"{where}, got {name!r}; {has}"
            )
    if fault:
        raise ValueError(f"{where}: expected a finite learning rate of 0 or more, {fault}")
    # A learning rate may have another name, that of a layer; other numbers may be negative.
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and (least := float(np.min(value))) < 0:
            params = jax.tree.unflatten(structure, shapes)
            if fault := first_update_fault(optimizer, params, {name: least}):
                raise ValueError(
                    f"hyperparameters[{name!r}]: expected values with which the {where} descends, "
                    f"at {least:g} {fault}"
                )


@functools.lru_cache(maxsize=256)
def _facts(optimizer: Any, structure: Any, shapes: tuple) -> tuple[str | None, set, set]:
    params = jax.tree.unflatten(structure, shapes)
    fault = first_update_fault(optimizer, params, {})
    return fault, *injected_names(optimizer, params)


def all_finite(tree: Any) -> jax.Array:
    """Whether all numbers of a pytree are finite."""
    return functools.reduce(
        jnp.logical_and, [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    )


def _is_injected(node: Any) -> bool:
    return hasattr(node, "hyperparams")


def _injected(memory: Any) -> list[Any]:
    """The states of `optax.inject_hyperparams`, wherever they are, outer ones first."""
    found = []
    for node in jax.tree.leaves(memory, is_leaf=_is_injected):
        if _is_injected(node):
            found += [node, *_injected(node.inner_state)]
    return found


def with_hyperparameters(memory: Any, values: Mapping[str, Any], floating: Any) -> Any:
    """An optimizer's state with these hyperparameters; `floating` is the parameters' dtype."""

    def converted(given: Any, old: Any) -> jax.Array:
        # One that was a whole number, such as a learning rate of 1, need not stay one.
        whole = not jnp.issubdtype(jnp.result_type(old), jnp.floating)
        return jnp.asarray(given, floating if whole else jnp.result_type(old))

    def fill(node: Any) -> Any:
        if not _is_injected(node):
            return node
        known = {
            name: converted(values[name], value) if name in values else value
            for name, value in node.hyperparams.items()
        }
        inner = with_hyperparameters(node.inner_state, values, floating)
        return node._replace(hyperparams=known, inner_state=inner)

    return jax.tree.map(fill, memory, is_leaf=_is_injected)


def learning_rate(memory: Any, dtype: Any) -> jax.Array | None:
    """The learning rate in an optimizer's state; None where it does not hold exactly one."""
    held = [
        node.hyperparams["learning_rate"]
        for node in _injected(memory)
        if "learning_rate" in node.hyperparams
    ]
    held += [
        node.learning_rate
        for node in jax.tree.leaves(memory, is_leaf=lambda node: hasattr(node, "learning_rate"))
        if hasattr(node, "learning_rate")
    ]
    return jnp.asarray(held[0], dtype) if len(held) == 1 else None


def injected_names(optimizer: Any, params: Any) -> tuple[set[str], set[str]]:
    """What `optax.inject_hyperparams` gave an optimizer: names of constants, and of schedules."""
    states = _injected(jax.eval_shape(optimizer.init, params))
    scheduled = {name for node in states for name in node.hyperparams_states}
    return {name for node in states for name in node.hyperparams} - scheduled, scheduled


def first_update_fault(optimizer: Any, params: Any, values: Mapping[str, float]) -> str | None:
    """What is wrong with an optimizer that makes a finite gradient infinite, or that climbs it.

    Optimizers are closures, so what they do is the only way to see in. With values of
    hyperparameters, which may be those of one layer, no leaf may climb for good.
    """
    with jax.ensure_compile_time_eval():
        ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), params)

        def total(params: Any) -> jax.Array:
            return functools.reduce(jnp.add, [jnp.sum(leaf) for leaf in jax.tree.leaves(params)])

        def levels(params: Any) -> list[jax.Array]:
            return (
                [jnp.sum(leaf) for leaf in jax.tree.leaves(params)] if values else [total(params)]
            )

        floating = jax.tree.leaves(ones)[0].dtype
        position, memory = ones, with_hyperparameters(optimizer.init(ones), values, floating)
        up = [True] * len(levels(ones))
        for _ in range(_TRIAL_STEPS):
            change, memory = update(optimizer, ones, memory, position, total(position), total)
            if not all_finite(change):
                return "got an update that is not finite from a gradient of ones"
            position = optax.apply_updates(position, change)
            now = zip(up, levels(position), levels(ones), strict=True)
            up = [so_far and bool(level > first) for so_far, level, first in now]
            if not any(up):
                return None
    return "got updates along a gradient of ones"


def update(
    optimizer: Any, gradient: Any, memory: Any, params: Any, value: Any, function: Callable
) -> tuple[Any, Any]:
    """An optimizer's update, given what else it can take."""
    known = {
        "value": value,
        "grad": gradient,
        # optax's line search refuses what neither it nor this function takes.
        "value_fn": lambda params, grad_fn=None: function(params),
        "grad_fn": lambda params, _: jax.grad(function)(params),
    }
    takes = inspect.signature(optimizer.update).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        known = {name: value for name, value in known.items() if name in takes}
    return optimizer.update(gradient, memory, params, **known)
