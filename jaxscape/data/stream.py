"""Data larger than memory: batches that are gone through one by one, as often as is needed."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import jax
import numpy as np

from jaxscape._util.digest import digest
from jaxscape.data.dataset import Dataset, sample_count

# Batches loaded before they are asked for: one in use, one waiting.
_AHEAD = 1


class Stream:
    """Data in batches, for losses that are means over samples; one batch is in memory at a time.

    A loss over a stream is the mean of its batches' losses, each batch counting as its samples do:
    what the loss over all of the data at once would be. While one batch is worked on, a thread
    loads the next.

    Args:
        source: what yields the same batches each time it is gone through, as a list or PyTorch's
            `DataLoader` do; or a function without arguments that returns an iterator. A batch is
            what the loss takes: a `Dataset` or any pytree of arrays. Batches of equal shapes share
            what is compiled.
        weight: batch -> how much it counts; None for its number of samples, or the sum of the
            sample weights of a `Dataset` that has them.

    Raises:
        TypeError: a source that can be gone through once only.

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
                "source: expected batches that can be gone through again, got an iterator, which "
                "is used up by one pass; give a function that returns it"
            )
        if not callable(source) and not isinstance(source, Iterable):
            raise TypeError(
                f"source: expected an iterable or a function that returns one, got {source!r}"
            )
        self._source, self._weight = source, weight
        self._seen: tuple[int, float] | None = None
        self._last: Iterator[Any] | None = None
        self._again = False
        self._began: str | None = None

    def __iter__(self) -> Iterator[tuple[float, Any]]:
        """Every batch after its weight.

        Raises:
            ValueError: no batch; a weight that is negative or not finite, or weights all zero;
                fewer or more batches than in an earlier pass; a function that returns the same
                iterator again, which does not start anew.
        """
        count, total = 0, 0.0
        for batch in _prefetched(self._batches()):
            weight = float(_samples(batch) if self._weight is None else self._weight(batch))
            if not (np.isfinite(weight) and weight >= 0):
                raise ValueError(f"weight: expected a number of 0 or more, got {weight}")
            count, total = count + 1, total + weight
            if self._seen and count > self._seen[0]:
                break
            yield weight, batch
        # One that began with two equal batches, and is used up.
        if self._again and self._seen is None:
            self.first()
        if total == 0:
            got = f"{count} that weigh nothing" if count else "none"
            raise ValueError(f"data: expected a stream with at least one batch, got {got}")
        if self._seen is None:
            self._seen = count, total
        elif count != self._seen[0] or not np.isclose(total, self._seen[1], rtol=1e-9):
            more = "or more " if count > self._seen[0] else ""
            raise ValueError(
                f"data: expected the stream's batches again, {self._seen[0]} that weigh "
                f"{self._seen[1]:g}, got {count} {more}that weigh {total:g}; does its source "
                "start anew each time?"
            )

    def _batches(self) -> Iterator[Any]:
        """The batches from the first on.

        Raises:
            ValueError: the same iterator as before, which goes on where it was.
        """
        batches = self._source() if callable(self._source) else self._source
        if not isinstance(batches, Iterator):
            yield from batches
            return
        # PyTorch's loader with workers that stay has one iterator, which it resets.
        self._again, self._last = batches is self._last, batches
        began = None
        for batch in batches:
            if began is None:
                began = digest(str(jax.tree.structure(batch)), jax.tree.leaves(batch))
                self._check_anew(began)
            yield batch
        self._check_anew(began)

    def _check_anew(self, began: str | None) -> None:
        if self._again and began != self._began:
            raise ValueError(
                "source: expected a function that returns a new iterator each time, got the same "
                "one again, which does not start with the same batch"
            )
        self._began = began

    @property
    def batch_count(self) -> int | None:
        """How many batches there are, once all were gone through, or if the source says."""
        if self._seen:
            return self._seen[0]
        return len(self._source) if isinstance(self._source, Sized) else None

    def first(self) -> Any:
        """The first batch.

        Raises:
            ValueError: there is none.
        """
        for batch in self._batches():
            return batch
        raise ValueError("data: expected a stream with at least one batch, got none")

    def __repr__(self) -> str:
        count = self.batch_count
        return f"Stream({'unknown number of' if count is None else count} batches)"


def mean_over(data: Any, function: Callable[[Any], Any]) -> Any:
    """`function(data)`, or the weighted mean over a stream's batches.

    Args:
        data: a `Stream`, or anything else that `function` takes.
        function: data or batch -> pytree of arrays, means over samples.

    Returns:
        The same pytree; over a stream its arrays are NumPy's, added up in float64.
    """
    if not isinstance(data, Stream):
        return function(data)
    total, weights = None, 0.0
    for weight, batch in data:
        part = jax.tree.map(lambda leaf, w=weight: w * np.asarray(leaf, float), function(batch))
        total = part if total is None else jax.tree.map(np.add, total, part)
        weights += weight
    return jax.tree.map(lambda leaf: leaf / weights, total)


def example_of(data: Any) -> Any:
    """The data, or the first batch of a stream, for its shapes and dtypes."""
    return data.first() if isinstance(data, Stream) else data


def _samples(batch: Any) -> float:
    if isinstance(batch, Dataset) and batch.sample_weight is not None:
        return float(np.sum(np.asarray(batch.sample_weight, float)))
    return sample_count("data", batch)


def _prefetched(batches: Iterable[Any]) -> Iterator[Any]:
    """The same batches, loaded in a thread while the one before is worked on."""
    ready: queue.Queue = queue.Queue(_AHEAD)
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
        except BaseException as error:  # raised where the batch is waited for
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
