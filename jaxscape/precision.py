"""Numbers in float64, whatever precision they came in."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def in_float64(tree: Any) -> Any:
    """Arrays and numbers of a pytree in float64, of the values that they have."""

    def convert(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return np.asarray(leaf).astype(np.float64) if floating else leaf

    return jax.tree.map(convert, tree)
