"""Data larger than memory, loaded batch by batch in as many passes as needed."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscape._util.digest import digest
from jaxscape.data.dataset import Dataset, sample_count

# The most batches that are loaded and not yet in use.
_MAX_WAITING = 1


class Stream:
    """Data in batches, for losses that are means over samples, and for data larger than memory.

    The loss over a stream is the mean of the batches' losses, weighted by their numbers of samples,
    which is the loss over all data. While one batch is in use, a thread loads the next. Batches of
    weight 0 are left out.

    Args:
        source: an iterable that yields the same samples in every pass, such as a list or PyTorch's
            `DataLoader`, in which `shuffle=True` needs `drop_last=False`; or a function without
            arguments that returns such an iterable. A batch is a `Dataset` or any pytree of arrays
            that the loss accepts. Batches of equal shapes share compiled code.
        weight: batch -> its weight in the mean; None for its number of samples, or the sum of the
            sample weights of a `Dataset` that has them.

    Raises:
        TypeError: `source` is an iterator, which allows only one pass, or is not iterable.

    Example:
        >>> data = jxs.data.noisy_sine(jax.random.key(0), n=1000)
        >>> stream = jxs.Stream(lambda: jxs.data.batches(data, 300))
        >>> jxs.landscape(jxs.squared_error, stream, w1=(-2, 2, 41), w2=(-1.5, 1.5, 31))
        Landscape(w1: 41 × w2: 31, exact, float32)
          loss from ... to ..., lowest at w1 = ..., w2 = ... (...)
    """

    def __init__(
        self,
        source: Iterable[Any] | Callable[[], Iterator[Any]],
        weight: Callable[[Any], float] | None = None,
    ):
        if isinstance(source, Iterator):
            raise TypeError(
                "source: expected an iterable for several passes, got an iterator, which allows "
                "only one; give a function that returns a new iterator"
            )
        if not callable(source) and not isinstance(source, Iterable):
            raise TypeError(
                f"source: expected an iterable or a function that returns one, got {source!r}"
            )
        self._source, self._weight = source, weight
        # The number of batches and their total weight in the first complete pass.
        self._first_pass: tuple[int, float] | None = None
        # The iterator of the latest pass, whether it is the same object as in the pass before, and
        # the digest of its first batch.
        self._iterator: Iterator[Any] | None = None
        self._is_reused = False
        self._first_digest: str | None = None

    def __iter__(self) -> Iterator[tuple[float, Any]]:
        """Iterate once through the source, over (weight, batch) for each batch of positive weight.

        Raises:
            ValueError: There are no batches; a weight is negative or not finite, or all are zero;
                the first pass had another number of batches or another total weight; or the source
                returned the same iterator again, and it did not start with the same batch.
        """
        count, total = 0, 0.0
        for batch in _prefetched(self._batches()):
            weight = float(_total_weight(batch) if self._weight is None else self._weight(batch))
            if not (np.isfinite(weight) and weight >= 0):
                raise ValueError(f"weight: expected a number of 0 or more, got {weight}")
            count, total = count + 1, total + weight
            if self._first_pass and count > self._first_pass[0]:
                break
            # The loss of a batch without weight may be NaN.
            if weight > 0:
                yield weight, batch
        # An exhausted iterator whose first two batches were equal passes the check of digests, but
        # has no batches left.
        if self._is_reused and self._first_pass is None:
            self.first()
        if total == 0:
            got = f"{count} of weight 0" if count else "none"
            raise ValueError(f"data: expected a stream with at least one batch, got {got}")
        if self._first_pass is None:
            self._first_pass = count, total
            return
        expected_count, expected_total = self._first_pass
        if count != expected_count or not np.isclose(total, expected_total, rtol=1e-9):
            more = "or more " if count > expected_count else ""
            raise ValueError(
                f"data: expected the stream's batches again, {expected_count} of total weight "
                f"{expected_total:g}, got {count} {more}of total weight {total:g}; let the source "
                "start from the first batch in every pass"
            )

    def _batches(self) -> Iterator[Any]:
        """Iterate over the batches, starting with the first.

        Raises:
            ValueError: The source returned the same iterator as before, and it did not start with
                the same batch.
        """
        batches = self._source() if callable(self._source) else self._source
        if not isinstance(batches, Iterator):
            yield from batches
            return
        # PyTorch's loader with persistent workers returns the same iterator each time, but resets
        # it.
        self._is_reused, self._iterator = batches is self._iterator, batches
        first_digest = None
        for batch in batches:
            if first_digest is None:
                first_digest = digest(str(jax.tree.structure(batch)), jax.tree.leaves(batch))
                self._check_first_batch(first_digest)
            yield batch
        self._check_first_batch(first_digest)

    def _check_first_batch(self, first_digest: str | None) -> None:
        if self._is_reused and first_digest != self._first_digest:
            raise ValueError(
                "source: expected a function that returns a new iterator each time, got the same "
                "one again, which does not start with the same batch"
            )
        self._first_digest = first_digest

    @property
    def batch_count(self) -> int | None:
        """The number of batches; None if the source has no length and no pass is complete yet."""
        if self._first_pass:
            return self._first_pass[0]
        return len(self._source) if isinstance(self._source, Sized) else None

    def first(self) -> Any:
        """Return the first batch.

        Raises:
            ValueError: There are no batches.
        """
        for batch in self._batches():
            return batch
        raise ValueError("data: expected a stream with at least one batch, got none")

    def __repr__(self) -> str:
        count = self.batch_count
        return f"Stream({'unknown number of' if count is None else count} batches)"


def mean_over(data: Any, function: Callable[[Any], Any]) -> Any:
    """Return `function(data)`, or its weighted mean over the batches of a stream.

    Args:
        data: a `Stream`, or any other argument of `function`.
        function: data or batch -> pytree of arrays that are means over samples.

    Returns:
        The function's pytree; for a stream, of float64 NumPy arrays.
    """
    if not isinstance(data, Stream):
        return function(data)
    total, weights = None, 0.0
    for weight, batch in data:
        part = jax.tree.map(lambda leaf, w=weight: w * np.asarray(leaf, float), function(batch))
        total = part if total is None else jax.tree.map(np.add, total, part)
        weights += weight
    return jax.tree.map(lambda leaf: leaf / weights, total)


class Passes:
    """Data that are read in several passes, in which a stream must yield the same samples.

    A stream that is shuffled and drops its last batch has the same number of batches in every pass,
    but other samples. So every pass computes the loss at the same parameters. The first pass
    computes only the loss.

    Args:
        data: a `Stream`, or any other argument of `loss`.
        loss: data or batch -> the loss at the parameters, a scalar.
    """

    def __init__(self, data: Any, loss: Callable[[Any], Any]):
        self._data, self._loss = data, loss
        self._first_loss: np.ndarray | None = None

    def mean(self, function: Callable[[Any], tuple[Any, Any]]) -> Any:
        """Return the results of a function, or their weighted mean over the batches of a stream.

        Args:
            function: data or batch -> its result, as in `mean_over`, and the loss.

        Raises:
            ValueError: The loss over a stream differs from that of the first pass by more than
                rounding.
        """
        if not isinstance(self._data, Stream):
            return function(self._data)[0]
        if self._first_loss is None:
            self._first_loss = mean_over(self._data, self._loss)

        def with_tolerance(batch: Any) -> tuple[Any, Any, Any]:
            result, loss = function(batch)
            # 6e-6 of the loss in float32. Means of the same samples in another order differ by
            # 3e-7; without one sample in 10⁵, they differ by about 1e-5.
            return result, loss, float(jnp.finfo(loss.dtype).eps) ** 0.75 * abs(loss)

        result, loss, tolerance = mean_over(self._data, with_tolerance)
        atol = tolerance if np.isfinite(tolerance) else 0.0
        if not np.isclose(loss, self._first_loss, rtol=0, atol=atol, equal_nan=True):
            raise ValueError(
                "data: expected the same samples in every pass over the stream, got a loss of "
                f"{self._first_loss:.7g} in the first pass and {loss:.7g} in a later one, at the "
                "same parameters; let the source yield all samples in every pass, without random "
                "changes and without drop_last=True"
            )
        return result


def example_of(data: Any) -> Any:
    """Return the data, or the first batch of a stream; used for shapes and dtypes."""
    return data.first() if isinstance(data, Stream) else data


def _total_weight(batch: Any) -> float:
    if isinstance(batch, Dataset) and batch.sample_weight is not None:
        return float(np.sum(np.asarray(batch.sample_weight, float)))
    return sample_count("data", batch)


def _prefetched(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches; a thread loads each of them while the previous one is in use."""
    ready: queue.Queue = queue.Queue(_MAX_WAITING)
    stopped = threading.Event()

    def put(item: tuple[str, Any]) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def load() -> None:
        try:
            for batch in batches:
                put(("batch", batch))
                if stopped.is_set():
                    return
            put(("end", None))
        except BaseException as error:  # the waiting thread raises it
            put(("error", error))

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    try:
        while True:
            kind, item = ready.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            yield item
    finally:
        stopped.set()
        thread.join()
