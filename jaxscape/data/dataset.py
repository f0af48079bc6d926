"""Datasets, which are samples with inputs, targets and weights; splits and batches of them."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.checks import Key, check_count, check_key
from jaxscape._util.pytree import is_traced


@jax.tree_util.register_pytree_with_keys_class
class Dataset:
    """Inputs, targets and, optionally, sample weights.

    Integers and booleans become floats of JAX's default width; floating dtypes are kept (float64
    needs `jax.enable_x64`, as everywhere in JAX).

    Args:
        x: (n,) inputs, or (n, features).
        y: (n,) targets, or (n, outputs).
        sample_weight: (n,) non-negative weights, not all zero, for the mean over samples. None
            gives all samples the same weight. In a batch of the data, all weights may be zero; the
            mean is then 0.

    Raises:
        TypeError: An array does not consist of real numbers.
        ValueError: The arrays are empty, differ in length, or are not finite; or the weights are
            negative or all zero.

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
            if not is_traced(weight) and not ((weight >= 0).all() and (weight > 0).any()):
                raise ValueError(
                    "sample_weight: expected non-negative numbers, not all zero, got a minimum of "
                    f"{weight.min():g} and a sum of {weight.sum():g}"
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

    # Rebuilding from leaves skips the checks, because transformations replace arrays by tracers,
    # and pytree utilities by placeholders.
    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey(name), leaf) for name, leaf in vars(self).items()], None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        dataset = object.__new__(cls)
        dataset.x, dataset.y, dataset.sample_weight = leaves
        return dataset


def _real(name: str, values: Any) -> jax.Array:
    """Convert `values` to a non-empty array of finite real numbers with a sample axis."""
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
    elif isinstance(values, np.ndarray):
        # JAX has neither big-endian numbers nor floats of more than 64 bits.
        native = values.dtype.newbyteorder("=")
        values = values.astype(native if native.itemsize <= 8 else float, copy=False)
    if not is_traced(values):
        # Check after the cast to JAX's width: 1e300 is finite in float64 and infinite in float32.
        with np.errstate(over="ignore"):
            converted = np.asarray(values).astype(jax.dtypes.canonicalize_dtype(values.dtype))
        nonfinite = np.argwhere(~np.isfinite(converted))
        if nonfinite.size:
            first = tuple(int(i) for i in nonfinite[0])
            raise ValueError(
                f"{name}: expected finite {converted.dtype} numbers, got {len(nonfinite)} that are "
                f"not, the first at index {first[0] if len(first) == 1 else first}: "
                f"{converted[first]}"
            )
        values = converted
    return jnp.asarray(values)


def split(data: Dataset, test_fraction: float, key: Key) -> tuple[Dataset, Dataset]:
    """Split a dataset at random into a training set and a test set.

    Args:
        data: n samples.
        test_fraction: the fraction of samples in the test set, between 0 and 1; the number of
            samples is rounded to the nearest whole number.
        key: a JAX random key.

    Returns:
        The training set and the test set.

    Raises:
        TypeError: `key` is not a JAX random key.
        ValueError: The fraction is outside (0, 1), or leaves one of the sets empty or with sample
            weights that are all zero.

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
            f"test_fraction: expected samples in both sets, got {test_fraction}, which puts "
            f"{n_test} of {len(data)} samples into the test set"
        )
    order = jax.random.permutation(key, len(data))
    train, test = take(data, order[n_test:]), take(data, order[:n_test])
    for name, part in (("training", train), ("test", test)):
        weight = part.sample_weight
        if weight is not None and not is_traced(weight) and not weight.any():
            raise ValueError(
                f"key: expected a positive sample weight in both sets, got none in the {name} set; "
                "use another key, or leave out the samples of weight 0"
            )
    return train, test


def sample_count(name: str, data: Any) -> int:
    """Return the number of samples, the common first axis size of a pytree's arrays.

    Args:
        name: the name of the argument `data`, for the message.
        data: a pytree of arrays.

    Raises:
        ValueError: The sizes differ, there are no samples, or an array has no axis.
    """
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(
            f"{name}: expected arrays that share their first axis, the samples, "
            f"got first axes {sorted(lengths)}"
        )
    return lengths.pop()[0]


def take(data: Any, indices: Any) -> Any:
    """Return the samples at `indices`, an integer array or a slice, of every array in `data`."""
    return jax.tree.map(lambda array: array[indices], data)


def batches(data: Dataset, batch_size: int, key: Key | None = None) -> Iterator[Dataset]:
    """Iterate once over the data in batches; the last one may be shorter.

    Args:
        data: n samples.
        batch_size: the number of samples per batch, from 1 to n.
        key: a JAX random key, to shuffle the samples; None keeps their order.

    Returns:
        An iterator over the batches.

    Raises:
        TypeError: `batch_size` is not a whole number, or `key` is not a JAX random key.
        ValueError: `batch_size` is not from 1 to n.

    Example:
        >>> [len(batch) for batch in jxs.data.batches(jxs.Dataset(np.arange(7), np.arange(7)), 3)]
        [3, 3, 1]
    """
    batch_size = check_batch_size(batch_size, len(data))
    if key is not None:
        check_key(key)
        data = take(data, jax.random.permutation(key, len(data)))
    return (
        take(data, slice(start, start + batch_size)) for start in range(0, len(data), batch_size)
    )


def check_batch_size(batch_size: int, n: int) -> int:
    """Return `batch_size` as an `int`; raise an error unless it is from 1 to n samples."""
    count = check_count("batch_size", batch_size)
    if count > n:
        raise ValueError(f"batch_size: expected 1 to {n}, the number of samples, got {count}")
    return count


def weigh_batches_equally(data: Dataset, batch_size: int) -> Dataset:
    """Compute sample weights for which the overall mean equals the average of the batch means.

    A short last batch then counts as much as a full one, as in a training loop that averages its
    batch losses.

    Args:
        data: n samples without weights, in the order of the batches.
        batch_size: the number of samples per batch, from 1 to n.

    Returns:
        The same samples with weights n / (number of batches · size of the sample's batch).

    Raises:
        TypeError: `batch_size` is not a whole number.
        ValueError: `batch_size` is not from 1 to n, or the samples already have weights.

    Example:
        >>> data = jxs.Dataset([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
        >>> jxs.data.weigh_batches_equally(data, 2).sample_weight
        Array([0.75, 0.75, 1.5 ], dtype=float32)
    """
    n = len(data)
    batch_size = check_batch_size(batch_size, n)
    if data.sample_weight is not None:
        raise ValueError("data: expected samples without weights, got samples with weights")
    batch = np.arange(n) // batch_size
    size = np.bincount(batch)
    return Dataset(data.x, data.y, (n / (len(size) * size[batch])).astype(data.x.dtype))
