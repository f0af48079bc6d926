"""What descents start from, and which of it is stacked: an axis of runs before all others."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape.training.run import Batched


def hyperparameters(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Numbers, or one-dimensional arrays of them, by name."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"hyperparameters: expected a mapping of names to numbers, got {given!r}")
    values = {}
    for name, value in given.items():
        where = f"hyperparameters[{name!r}]"
        array = np.asarray(value)
        if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.kind != "f":
            array = array.astype(np.float32)  # bfloat16 is not NumPy's
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{where}: expected numbers, got {value!r}")
        if array.ndim > 1:
            raise ValueError(f"{where}: expected one number or (runs,), got shape {array.shape}")
        if not np.isfinite(array).all():
            first = np.atleast_1d(array)[np.argmin(np.isfinite(np.atleast_1d(array)))]
            raise ValueError(f"{where}: expected finite numbers, got {first}")
        if "learning_rate" in name and (array < 0).any():
            raise ValueError(f"{where}: expected 0 or more, got {array.min()}")
        values[name] = array.astype(np.float64 if array.dtype.kind != "f" else array.dtype)
    return values


def stacked(
    starts: Any, runs: int | None, key: Any, values: Mapping[str, np.ndarray]
) -> tuple[int | None, Batched]:
    """How many runs there are, None for a single one, and what is stacked."""
    lengths = {} if runs is None else {"runs": int(runs)}
    if runs is not None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(starts):
            if leaf.shape[:1] != (runs,):
                raise ValueError(
                    f"params{jax.tree_util.keystr(path)}: expected a first axis of {runs}, the "
                    f"runs, got shape {leaf.shape}"
                )
    typed = key is not None and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    extra = 0 if key is None else key.ndim - (not typed)
    if extra > 1:
        raise ValueError(f"key: expected one key or a stack of them, got shape {key.shape}")
    if extra:
        lengths["key"] = key.shape[0]
    names = tuple(name for name, value in values.items() if value.ndim)
    lengths |= {f"hyperparameters[{name!r}]": len(values[name]) for name in names}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        came = ", ".join(f"{name} of {length}" for name, length in lengths.items())
        raise ValueError(f"runs: expected stacks of one length, 1 or more, got {came}")
    count = next(iter(lengths.values()), None)
    return count, Batched(runs is not None, bool(extra), names)
