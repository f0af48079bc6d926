"""The loss surface of every mini-batch, their mean and their standard deviation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util import thumbnails
from jaxscape._util.checks import Key, check_key
from jaxscape.data.dataset import Dataset, check_batch_size, sample_count, take
from jaxscape.grid.axes import AxisValues
from jaxscape.grid.landscape import whole_landscape
from jaxscape.planes.plane import Plane
from jaxscape.results.landscape import Landscape


class BatchLandscapes(NamedTuple):
    """The loss surfaces of all mini-batches of an epoch."""

    batches: tuple[Landscape, ...]
    """The surface of each batch, in the order of training."""
    mean: Landscape
    """The mean of the surfaces, each weighted by its number of samples or the sum of its sample
    weights. For a loss that is a mean over samples, it is the surface of the whole data set."""
    deviation: Landscape
    """The standard deviation of the surfaces about `mean`, with the same weights."""

    def __repr__(self) -> str:
        highest = self.deviation.highest
        deviation = "" if highest is None else f", standard deviation up to {highest:.6g}"
        return f"BatchLandscapes({len(self.batches)} batches{deviation})"

    def _repr_html_(self) -> str:
        """Show the mean as colors in a notebook."""
        return self.mean._repr_html_() + thumbnails.text(self)


def batch_landscapes(
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    batch_size: int,
    plane: Plane | None = None,
    *,
    key: Key | None = None,
    method: Literal["auto", "dense", "exact"] = "auto",
    **axes: AxisValues,
) -> BatchLandscapes:
    """Compute the loss surface of each mini-batch, their mean and their standard deviation.

    Args:
        loss: (params, data) -> scalar, a mean over samples.
        data: n samples: a `Dataset`, or a pytree of arrays that share their first axis.
        batch_size: the number of samples in a batch, 1 to n. The last batch is shorter if n is not
            a multiple of it.
        plane: the plane through the parameters; None for the plane of the two weights.
        key: None keeps the order of the samples; a JAX random key shuffles them.
        method: "dense", "exact" or "auto", as in `landscape`.
        **axes: the two axes by name, as in `landscape`.

    Returns:
        The surfaces, their mean and their standard deviation, all on one grid.

    Raises:
        TypeError: The loss, the plane or an axis has a type that `landscape` does not accept.
        ValueError: `batch_size` is not between 1 and n, the arrays of `data` differ in length, or
            `landscape` does not accept an axis.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0), n=100)
        >>> surfaces = jxs.training.batch_landscapes(jxs.squared_error, data, 32, w1=(-2, 2, 21),
        ...                                          w2=(-2, 2, 17))
        >>> len(surfaces.batches), surfaces.deviation.shape
        (4, (21, 17))
    """
    n = sample_count("data", data)
    check_batch_size(batch_size, n)
    if key is not None:
        check_key(key)
        data = take(data, jax.random.permutation(key, n))
    batches = [take(data, slice(k, k + batch_size)) for k in range(0, n, batch_size)]
    surfaces = tuple(
        whole_landscape(loss, batch, plane, method=method, **axes) for batch in batches
    )
    weights = np.array([_weight(batch) for batch in batches])
    weights = weights / weights.sum()
    first = surfaces[0]
    mean, variance = (np.zeros(first.shape) for _ in range(2))
    # The loss of a batch without weight may be NaN.
    weighted = [pair for pair in zip(weights, surfaces, strict=True) if pair[0] > 0]
    for weight, surface in weighted:
        mean += weight * np.asarray(surface.loss, float)
    for weight, surface in weighted:
        variance += weight * (np.asarray(surface.loss, float) - mean) ** 2

    def on_same_grid(loss: np.ndarray, name: str) -> Landscape:
        return replace(first, loss=loss.astype(first.loss.dtype), loss_name=name)

    name = first.loss_name
    return BatchLandscapes(
        surfaces,
        on_same_grid(mean, f"mean of {name} over {len(batches)} batches"),
        on_same_grid(np.sqrt(variance), f"deviation of {name} over {len(batches)} batches"),
    )


def _weight(batch: Any) -> float:
    """Return the sum of a batch's sample weights, or its number of samples without weights."""
    if isinstance(batch, Dataset) and batch.sample_weight is not None:
        return float(jnp.sum(batch.sample_weight))
    return float(sample_count("data", batch))
