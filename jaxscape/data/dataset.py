"""Points to learn from: a `Dataset`, made up, split and batched."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import Key, check_key


@jax.tree_util.register_pytree_with_keys_class
class Dataset:
    """Inputs, targets and, if wanted, how much each sample counts.

    Integers become floats of JAX's default width; other dtypes stay as they are (float64 needs
    `jax.enable_x64`, as everywhere in JAX).

    Args:
        x: (n,) inputs, or (n, features).
        y: (n,) targets, or (n, outputs).
        sample_weight: (n,) non-negative, not all zero; a loss is then the weighted mean over
            samples. None: every sample counts alike.

    Raises:
        TypeError: an array that does not hold real numbers.
        ValueError: arrays that are empty, of unequal length, or not finite.

    Example:
        >>> jxs.Dataset([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
        Dataset(3 samples, x: float32[3], y: float32[3])
    """

    x: jax.Array
    y: jax.Array
    sample_weight: jax.Array | None

    def __init__(self, x: Any, y: Any, sample_weight: Any = None):
        self.x, self.y = _real("x", x), _real("y", y)
        n = self.x.shape[0]
        if self.y.shape[0] != n:
            raise ValueError(f"y: expected as many samples as x, {n}, got {self.y.shape[0]}")
        self.sample_weight = None
        if sample_weight is not None:
            weight = _real("sample_weight", sample_weight)
            if weight.shape != (n,):
                raise ValueError(f"sample_weight: expected shape ({n},), got {weight.shape}")
            if not isinstance(weight, jax.core.Tracer) and not (
                (weight >= 0).all() and (weight > 0).any()
            ):
                raise ValueError(
                    "sample_weight: expected non-negative numbers, not all zero, got "
                    f"a lowest of {weight.min():g} and a sum of {weight.sum():g}"
                )
            self.sample_weight = weight

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def __repr__(self) -> str:
        arrays = [
            f"{name}: {array.dtype}[{','.join(map(str, array.shape))}]"
            for name, array in vars(self).items()
            if array is not None
        ]
        return f"Dataset({', '.join([f'{len(self)} samples', *arrays])})"

    # Rebuilding from leaves skips the checks: transformations put tracers, and pytree
    # utilities put placeholders, where arrays were.
    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey(name), leaf) for name, leaf in vars(self).items()], None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        dataset = object.__new__(cls)
        dataset.x, dataset.y, dataset.sample_weight = leaves
        return dataset


def _real(name: str, values: Any) -> jax.Array:
    """`values` as a non-empty array of finite real numbers with a sample axis."""
    if not isinstance(values, jax.Array):
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name}: expected an array, got ragged values ({error})") from None
    is_number = jnp.issubdtype(values.dtype, jnp.integer) or jnp.issubdtype(
        values.dtype, jnp.floating
    )
    if not is_number and values.dtype != bool:
        raise TypeError(f"{name}: expected real numbers, got dtype {values.dtype}")
    if values.ndim == 0 or values.size == 0:
        raise ValueError(f"{name}: expected at least one sample, got shape {values.shape}")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jax.dtypes.canonicalize_dtype(float))
    if not isinstance(values, jax.core.Tracer):
        # After the cast to JAX's width: 1e300 is finite in float64 and infinite in float32.
        with np.errstate(over="ignore"):
            held = np.asarray(values).astype(jax.dtypes.canonicalize_dtype(values.dtype))
        holes = np.argwhere(~np.isfinite(held))
        if holes.size:
            first = tuple(int(i) for i in holes[0])
            raise ValueError(
                f"{name}: expected finite {held.dtype} numbers, got {len(holes)} that are not, "
                f"the first at index {first[0] if len(first) == 1 else first}: {held[first]}"
            )
        values = held
    return jnp.asarray(values)


def split(data: Dataset, test_fraction: float, key: Key) -> tuple[Dataset, Dataset]:
    """Split at random into a training and a test set.

    Args:
        data: n samples.
        test_fraction: the part that becomes the test set, between 0 and 1; its size is rounded
            to the nearest whole sample.
        key: a JAX random key; the same key gives the same split.

    Returns:
        The training set and the test set.

    Raises:
        ValueError: a fraction outside (0, 1), or one that leaves either set empty.

    Example:
        >>> data = jxs.Dataset(np.arange(10), np.arange(10))
        >>> train, test = jxs.data.split(data, 0.3, jax.random.key(1))
        >>> len(train), len(test)
        (7, 3)
    """
    check_key(key)
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: expected a number between 0 and 1, got {test_fraction}")
    n_test = round(test_fraction * len(data))
    if not 0 < n_test < len(data):
        raise ValueError(
            f"test_fraction: expected one that leaves samples on both sides, got {test_fraction}, "
            f"which makes {n_test} of {len(data)} samples the test set"
        )
    order = jax.random.permutation(key, len(data))
    return take(data, order[n_test:]), take(data, order[:n_test])


def sample_count(name: str, data: Any) -> int:
    """How many samples the arrays of a pytree have in common along their first axis."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(
            f"{name}: expected arrays that share their first axis, the samples, "
            f"got first axes {sorted(lengths)}"
        )
    return lengths.pop()[0]


def take(data: Any, indices: Any) -> Any:
    """The samples at `indices`, an integer array or a slice, of every array in `data`."""
    return jax.tree.map(lambda array: array[indices], data)


def batches(data: Dataset, batch_size: int, key: Key | None = None) -> Iterator[Dataset]:
    """Walk once through the data in batches; the last one is short where they do not divide.

    Args:
        data: n samples.
        batch_size: samples in a batch, from 1 to n.
        key: None keeps the order; a JAX random key shuffles.

    Returns:
        An iterator over the batches.

    Raises:
        ValueError: a batch size under 1 or over n.

    Example:
        >>> [len(batch) for batch in jxs.data.batches(jxs.Dataset(np.arange(7), np.arange(7)), 3)]
        [3, 3, 1]
    """
    check_batch_size(batch_size, len(data))
    if key is not None:
        check_key(key)
        data = take(data, jax.random.permutation(key, len(data)))
    return (
        take(data, slice(start, start + batch_size)) for start in range(0, len(data), batch_size)
    )


def check_batch_size(batch_size: int, n: int) -> None:
    """Refuse a batch size that is not a whole number from 1 to the n samples there are."""
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool):
        raise TypeError(f"batch_size: expected a whole number, got {batch_size!r}")
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size: expected 1 to {n}, the number of samples, got {batch_size}")


def weigh_batches_equally(data: Dataset, batch_size: int) -> Dataset:
    """Weigh samples so that a mean over them is the mean of the means of batches in order.

    A short last batch then counts as much as a full one, as in a loop that averages its batch
    losses.

    Args:
        data: n samples without weights.
        batch_size: samples in a batch, from 1 to n.

    Returns:
        The same samples, each weighing n / (batches · size of its batch).

    Raises:
        ValueError: a batch size under 1 or over n, or samples that already have weights.

    Example:
        >>> data = jxs.Dataset([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
        >>> jxs.data.weigh_batches_equally(data, 2).sample_weight
        Array([0.75, 0.75, 1.5 ], dtype=float32)
    """
    n = len(data)
    check_batch_size(batch_size, n)
    if data.sample_weight is not None:
        raise ValueError("data: expected samples without weights, got some that have them")
    batch = np.arange(n) // batch_size
    size = np.bincount(batch)
    return Dataset(data.x, data.y, (n / (len(size) * size[batch])).astype(data.x.dtype))
