"""Find the arguments that are stacked along an axis of runs, and the number of runs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import Key
from jaxscape._util.pytree import Params


class RunAxis(NamedTuple):
    """The arguments of `run_all` that have a leading axis of runs."""

    params: bool
    key: bool
    hyperparameters: tuple[str, ...]
    """The names of the stacked hyperparameters."""


NO_RUN_AXIS = RunAxis(False, False, ())
"""The axis of a single run."""


def check_hyperparameters(hyperparameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return each hyperparameter as a floating array, () for one number or (runs,) for many.

    Raises:
        TypeError: `hyperparameters` is not a mapping of names, or a value is not numeric.
        ValueError: A value has more than one axis or is not finite, or a learning rate is negative.
    """
    if not isinstance(hyperparameters, Mapping) or not all(
        isinstance(name, str) for name in hyperparameters
    ):
        raise TypeError(
            f"hyperparameters: expected a mapping of names to numbers, got {hyperparameters!r}"
        )
    arrays = {}
    for name, value in hyperparameters.items():
        argument = f"hyperparameters[{name!r}]"
        array = np.asarray(value)
        if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.kind != "f":
            array = array.astype(np.float32)  # bfloat16 is not a NumPy dtype
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{argument}: expected numbers, got {value!r}")
        if array.ndim > 1:
            raise ValueError(f"{argument}: expected one number or (runs,), got shape {array.shape}")
        if not np.isfinite(array).all():
            first = np.atleast_1d(array)[np.argmin(np.isfinite(np.atleast_1d(array)))]
            raise ValueError(f"{argument}: expected finite numbers, got {first}")
        if "learning_rate" in name and (array < 0).any():
            raise ValueError(f"{argument}: expected 0 or more, got {array.min()}")
        arrays[name] = array.astype(np.float64 if array.dtype.kind != "f" else array.dtype)
    return arrays


def find_run_axis(
    params: Params, runs: int | None, key: Key | None, hyperparameters: Mapping[str, np.ndarray]
) -> tuple[int | None, RunAxis]:
    """Find the number of runs and the arguments that are stacked.

    Args:
        params: a pytree of arrays, each with a leading axis of runs if `runs` is not None.
        runs: the number of stacked starts; None for one start.
        key: one key, a stack of them, or None.
        hyperparameters: arrays from `check_hyperparameters`.

    Returns:
        The number of runs, None for a single run, and the `RunAxis`.

    Raises:
        ValueError: The stacks differ in length, are empty, or have more than one axis of runs.
    """
    lengths = {} if runs is None else {"runs": int(runs)}
    if runs is not None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if leaf.shape[:1] != (runs,):
                raise ValueError(
                    f"params{jax.tree_util.keystr(path)}: expected a first axis of {runs}, the "
                    f"runs, got shape {leaf.shape}"
                )
    key_axes = 0
    if key is not None:
        # A key made by `jax.random.PRNGKey` is an array with one axis.
        is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        key_axes = key.ndim - (not is_typed)
        if key_axes > 1:
            raise ValueError(f"key: expected one key or a stack of them, got shape {key.shape}")
        if key_axes:
            lengths["key"] = key.shape[0]
    names = tuple(name for name, array in hyperparameters.items() if array.ndim)
    lengths |= {f"hyperparameters[{name!r}]": len(hyperparameters[name]) for name in names}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        got = ", ".join(f"{name} of {length}" for name, length in lengths.items())
        raise ValueError(f"runs: expected stacks of one length, 1 or more, got {got}")
    count = next(iter(lengths.values()), None)
    return count, RunAxis(runs is not None, bool(key_axes), names)
