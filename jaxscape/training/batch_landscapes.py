"""What mini-batch training stands on: the surface of every batch, their mean and deviation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.checks import Key, check_key
from jaxscape.data.dataset import Dataset, check_batch_size, sample_count, take
from jaxscape.grid.landscape import whole_landscape
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Landscape


class BatchLandscapes(NamedTuple):
    """The surfaces of all batches of an epoch."""

    batches: tuple[Landscape, ...]
    """Each on its own samples, in the order in which training meets them."""
    mean: Landscape
    """Their mean, every sample counting alike: for a mean over samples, the whole set's surface."""
    deviation: Landscape
    """Their standard deviation about it, batches weighed as in the mean."""

    def __repr__(self) -> str:
        highest = self.deviation.highest
        apart = "" if highest is None else f", up to {highest:.6g} apart (standard deviation)"
        return f"BatchLandscapes({len(self.batches)} batches{apart})"

    def _repr_html_(self) -> str:
        """What a notebook shows: their mean as colors."""
        return self.mean._repr_html_() + thumbnails.text(self)


def batch_landscapes(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    batch_size: int,
    plane: Plane | None = None,
    *,
    key: Key | None = None,
    method: Literal["auto", "dense", "exact"] = "auto",
    **axes: Any,
) -> BatchLandscapes:
    """The loss surface of each mini-batch, their mean and their standard deviation.

    Args:
        loss: (params, data) -> scalar, a mean over samples.
        data: n samples: a `Dataset`, or a pytree of arrays that share their first axis.
        batch_size: samples in a batch, 1 to n; the last is short where they do not divide.
        plane, method, **axes: as in `landscape`.
        key: a JAX random key shuffles first; None keeps the order.

    Returns:
        `BatchLandscapes`.

    Raises:
        TypeError, ValueError: as `landscape`, and for a batch size under 1 or over n.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0), n=100)
        >>> found = jxs.training.batch_landscapes(jxs.squared_error, data, 32, w1=(-2, 2, 21),
        ...                              w2=(-2, 2, 17))
        >>> len(found.batches), found.deviation.shape
        (4, (21, 17))
    """
    n = sample_count("data", data)
    check_batch_size(batch_size, n)
    if key is not None:
        check_key(key)
        data = take(data, jax.random.permutation(key, n))
    parts = [take(data, slice(k, k + batch_size)) for k in range(0, n, batch_size)]
    surfaces = tuple(whole_landscape(loss, part, plane, method=method, **axes) for part in parts)
    shares = np.array([_weight(part) for part in parts])
    shares = shares / shares.sum()
    first = surfaces[0]
    mean, square = (np.zeros(first.shape) for _ in range(2))
    for share, surface in zip(shares, surfaces, strict=True):
        mean += share * np.asarray(surface.loss, float)
    for share, surface in zip(shares, surfaces, strict=True):
        square += share * (np.asarray(surface.loss, float) - mean) ** 2

    def same_grid(loss: np.ndarray, what: str) -> Landscape:
        loss = loss.astype(first.loss.dtype)
        return replace(first, loss=loss, loss_name=what)

    name = first.loss_name
    return BatchLandscapes(
        surfaces,
        same_grid(mean, f"mean of {name} over {len(parts)} batches"),
        same_grid(np.sqrt(square), f"deviation of {name} over {len(parts)} batches"),
    )


def _weight(part: Any) -> float:
    """How much a batch counts: as its samples do."""
    if isinstance(part, Dataset) and part.sample_weight is not None:
        return float(jnp.sum(part.sample_weight))
    return float(sample_count("data", part))
