"""Streams of batches, and losses with several scalars, compared with all data at once."""

import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.data import stream as stream_module
from jaxscape.grid import plan

AXES = {"a": (-1, 2, 7), "b": (-2, 1, 5)}
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(101, 3)).astype(np.float32)
LABELS = np.argmax(X + 0.5 * GENERATOR.normal(size=X.shape), axis=1)
PLANE = jxs.Plane(
    {"w": np.eye(3, dtype=np.float32) + np.float32(0.1), "hidden": 1 - np.eye(3, dtype=np.float32)},
    *(
        {name: GENERATOR.normal(size=(3, 3)).astype(np.float32) for name in ("w", "hidden")}
        for _ in "ab"
    ),
)


def scores(params, batch):
    """Return the loss, the accuracy and the error of one class of a network with a hidden layer."""
    x, labels = batch
    logits = jnp.tanh(x @ params["hidden"]) @ params["w"]
    of_label = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    right = (jnp.argmax(logits, axis=1) == labels).astype(logits.dtype)
    # This error of one class is a mean over all samples, not over the samples of the class.
    wrong = jnp.mean(jnp.where(labels == 2, 1 - right, 0))
    return {"loss": -jnp.mean(of_label), "accuracy": jnp.mean(right), "class 2": wrong}


def loss(params, batch):
    return scores(params, batch)["loss"]


def cut(sizes):
    ends = np.cumsum([0, *sizes])
    assert ends[-1] == len(X)
    return [(X[i:j], LABELS[i:j]) for i, j in itertools.pairwise(ends)]


@pytest.mark.parametrize("sizes", [[101], [50, 51], [40, 1, 60], [13] * 7 + [10]])
def test_batches_of_any_sizes_give_the_loss_of_all_data(sizes):
    """The float32 means of batches are summed in float64."""
    whole = jxs.landscape(loss, (X, LABELS), PLANE, **AXES)
    parts = jxs.landscape(loss, jxs.Stream(cut(sizes)), PLANE, **AXES)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-6)
    assert parts.loss.dtype == np.float32
    if len(set(sizes)) > 2:
        unweighted = np.mean([jxs.landscape(loss, x, PLANE, **AXES).loss for x in cut(sizes)], 0)
        assert np.abs(unweighted / whole.loss - 1).max() > 1e-3


def test_each_scalar_has_its_own_landscape():
    streamed = jxs.landscape(scores, jxs.Stream(cut([60, 41])), PLANE, **AXES)
    whole = jxs.landscape(scores, (X, LABELS), PLANE, **AXES)
    assert set(streamed) == set(whole) == {"loss", "accuracy", "class 2"}
    scores_at = jax.jit(lambda a, b: scores(PLANE.at(a, b), (X, LABELS)))
    for name, surface in streamed.items():
        assert surface.loss_name == name
        expected = [
            [scores_at(a, b)[name] for b in np.asarray(surface.b.values)]
            for a in np.asarray(surface.a.values)
        ]
        np.testing.assert_allclose(surface.loss, expected, rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(whole[name].loss, expected, rtol=2e-6, atol=1e-7)


def test_several_scalars_are_computed_in_row_blocks_and_tiles(monkeypatch):
    """The axis of the scalars is not an axis of the grid."""
    once = jxs.landscape(scores, (X, LABELS), PLANE, **AXES)
    monkeypatch.setattr(plan, "_BLOCK_OPERATIONS", {"cpu": 2})
    monkeypatch.setattr(plan, "_MAX_TILE_CELLS", {"cpu": 4})
    plan._cached_plan.cache_clear()
    in_tiles = jxs.landscape(scores, (X, LABELS), PLANE, **AXES)
    plan._cached_plan.cache_clear()
    for name, surface in once.items():
        assert in_tiles[name].shape == (7, 5)
        np.testing.assert_allclose(in_tiles[name].loss, surface.loss, rtol=2e-6, atol=1e-7)


def test_the_exact_method_weighs_batches_by_their_sample_weights(x64):
    x, noise = np.random.default_rng(3).normal(size=(2, 97))
    data = jxs.Dataset(x, np.sin(x) + 0.1 * noise, np.linspace(0, 3, 97))
    stream = jxs.Stream(lambda: jxs.data.batches(data, 40))
    axes = {"w1": (-3, 2, 11), "w2": (-1, 2, 9)}
    whole = jxs.landscape(jxs.squared_error, data, **axes)
    parts = jxs.landscape(jxs.squared_error, stream, **axes)
    assert parts.method == whole.method == "exact"
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-12)
    by_count = jxs.Stream(lambda: jxs.data.batches(data, 40), weight=len)
    assert np.abs(jxs.landscape(jxs.squared_error, by_count, **axes).loss - whole.loss).max() > 0.01


def weighted_loss(weights, data):
    """A mean that divides 0 by 0 if all weights are zero."""
    error = jnp.abs(jxs.TwoWeightNetwork()(weights, data.x) - data.y)
    return jnp.sum(data.sample_weight * error) / jnp.sum(data.sample_weight)


@pytest.mark.parametrize("zeros", [[0, 1], [3, 4, 5], [8]])
@pytest.mark.parametrize("loss", [jxs.squared_error, jxs.absolute_error, weighted_loss])
def test_a_batch_whose_weights_are_all_zero_does_not_count(loss, zeros):
    weight = np.ones((9, 3))
    weight[zeros] = 0
    x = np.random.default_rng(0).normal(size=27).astype(np.float32)
    data = jxs.Dataset(x, np.sin(x), weight.ravel())
    stream = jxs.Stream(lambda: jxs.data.batches(data, 3))
    axes = {"w1": (-2, 1, 4), "w2": (-1, 2, 3)}
    expected = jxs.landscape(loss, data, **axes).loss
    np.testing.assert_allclose(jxs.landscape(loss, stream, **axes).loss, expected, rtol=1e-5)
    weights, key = jxs.Weights(0.7, -0.4), jax.random.key(0)
    line = jxs.connectivity.interpolate(loss, stream, weights, jxs.Weights(1.0, 1.0), t=(0, 1, 3))
    whole = jxs.connectivity.interpolate(loss, data, weights, jxs.Weights(1.0, 1.0), t=(0, 1, 3))
    np.testing.assert_allclose(line.loss, whole.loss, rtol=1e-5)
    for compute in (
        lambda data: jxs.curvature.eigenpairs(loss, data, weights, 2, key).values,
        lambda data: jxs.curvature.hessian_trace(loss, data, weights, key).value,
    ):
        np.testing.assert_allclose(compute(stream), compute(data), rtol=1e-4)


def test_a_thread_loads_two_batches_ahead_and_ends_with_the_pass():
    loaded, in_thread = [], []

    def load():
        for k in range(5):
            loaded.append(k)
            in_thread.append(threading.current_thread() is not threading.main_thread())
            yield jnp.ones((2, 1)) * k

    passing = iter(jxs.Stream(load))
    assert next(passing)[0] == 2
    for _ in range(200):
        if len(loaded) == 3:  # one waits in the queue, and one to enter it
            break
        threading.Event().wait(0.01)
    assert len(loaded) == 3
    assert all(in_thread)
    passing.close()
    count = threading.active_count()
    assert not [t for t in threading.enumerate() if t.name.endswith("(load)")], count


def test_batches_of_equal_shapes_share_compiled_code(compilations):
    def new(params, batch):
        return jnp.mean((batch @ params["w"]) ** 2)

    def stream(n, size):
        return jxs.Stream([np.full((size, 3), k, np.float32) for k in range(n)])

    jxs.landscape(new, stream(2, 8), PLANE, **AXES)
    before = len(compilations)
    jxs.landscape(new, stream(6, 8), PLANE, **AXES)
    assert len(compilations) == before
    jxs.landscape(new, stream(1, 9), PLANE, **AXES)
    assert len(compilations) > before


def test_ctrl_c_returns_the_mean_over_the_batches_that_are_done():
    batches = cut([40, 41, 20])

    def source():
        yield from batches[:2]
        raise KeyboardInterrupt

    with pytest.warns(jxs.InterruptedWarning, match="the first 2 batches, of weight 81"):
        surface = jxs.landscape(loss, jxs.Stream(source), PLANE, **AXES)
    assert surface.loss_name.endswith("over the first 2 batches")
    expected = jxs.landscape(loss, (X[:81], LABELS[:81]), PLANE, **AXES)
    np.testing.assert_allclose(surface.loss, expected.loss, rtol=1e-6)

    def at_once(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jxs.landscape(loss, jxs.Stream(batches, weight=at_once), PLANE, **AXES)


def test_cells_that_are_not_finite_are_counted_per_scalar():
    def roots(params, batch):
        return {"root": jnp.mean(jnp.sqrt((params["w"][0, 0] - 1) * batch)), "one": jnp.ones(())}

    with pytest.warns(jxs.NonFiniteWarning, match="of root are not finite"):
        surfaces = jxs.landscape(roots, jxs.Stream([np.ones((4, 1))]), PLANE, **AXES)
    assert surfaces["root"].nonfinite_count > 0
    assert surfaces["one"].nonfinite_count == 0


def test_the_mean_over_a_stream_is_taken_of_any_pytree():
    stream = jxs.Stream(cut([40, 1, 60]))
    mean = stream_module.mean_over(stream, lambda batch: {"mean": np.mean(batch[0], axis=0)})
    np.testing.assert_allclose(mean["mean"], np.mean(np.asarray(X, float), axis=0), atol=1e-7)


def shuffled(x, size, drop_last):
    """Return a stream in another order in every pass, like PyTorch's loader with shuffle=True."""
    generator = np.random.default_rng(1)

    def source():
        order = generator.permutation(len(x))
        end = len(x) // size * size if drop_last else len(x)
        for start in range(0, end, size):
            yield x[order[start : start + size]]

    return jxs.Stream(source)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [10, 1003, 100_003])
def test_passes_over_the_same_samples_in_any_order_are_accepted_and_others_refused(dtype, n):

    def square(batch):
        # JAX computes means of float16 in float32.
        wide = np.promote_types(dtype, np.float32)
        return np.mean(batch.astype(wide) ** 2).astype(dtype)

    x = np.random.default_rng(0).normal(0.5, 2, n).astype(dtype)
    size = 7 if n < 1000 else 100
    # In float16, a few samples in 1000 do not change the loss by more than rounding.
    for drop_last in (False, True) if dtype != np.float16 or n == 10 else (False,):
        stream = shuffled(x, size, drop_last)
        passes = stream_module.Passes(stream, square)

        def mean(batch):
            return batch.mean(dtype=float), square(batch)

        if drop_last:
            with pytest.raises(ValueError, match="data: expected the same samples in every pass"):
                passes.mean(mean)
        else:
            for _ in range(3):
                np.testing.assert_allclose(passes.mean(mean), x.mean(dtype=float), atol=0.02)


def test_only_streams_need_an_additional_pass():
    passes = stream_module.Passes(np.arange(4.0), lambda _: 1 / 0)
    assert passes.mean(lambda data: (data.sum(), None)) == 6


@pytest.mark.parametrize("values", [(np.nan, np.nan), (np.inf, np.inf), (-np.inf, -np.inf), (0, 0)])
def test_losses_that_are_not_finite_are_compared_too(values):
    first, later = map(np.float32, values)
    passes = stream_module.Passes(jxs.Stream([np.ones(2)]), lambda _: first)
    assert passes.mean(lambda batch: (batch.sum(), later)) == 2
    with pytest.raises(ValueError, match=r"a loss of .* in the first pass and 1 in a later one"):
        passes.mean(lambda batch: (batch.sum(), np.float32(1)))


def test_other_samples_with_the_same_loss_are_not_noticed():
    """Every sample is fitted exactly, so that the loss is 0 with any of them."""
    stream = shuffled(np.arange(10.0), 7, drop_last=True)
    passes = stream_module.Passes(stream, lambda batch: np.zeros((), np.float32))
    means = [passes.mean(lambda batch: (batch.mean(), np.float32(0))) for _ in range(3)]
    assert len(set(map(float, means))) > 1


def fewer_each_time():
    left = [3]

    def source():
        left[0] -= 1
        return iter([jnp.ones((2, 1))] * left[0])

    return source


def more_each_time():
    there = [0]

    def source():
        there[0] += 1
        return iter([jnp.ones((2, 1))] * there[0])

    return source


@pytest.mark.parametrize("make", [fewer_each_time, more_each_time])
def test_a_pass_with_more_or_fewer_batches_is_refused(make):
    stream = jxs.Stream(make())
    list(stream)
    with pytest.raises(ValueError, match="expected the stream's batches again"):
        list(stream)


def test_a_function_that_returns_the_same_iterator_again_is_refused():
    """The batch that was read for its shapes would be missing from the mean."""
    same = iter(cut([50, 51]))
    with pytest.raises(ValueError, match="source: expected a function that returns a new iterator"):
        jxs.landscape(loss, jxs.Stream(lambda: same), PLANE, **AXES)


def test_a_used_up_iterator_is_refused_even_if_its_first_batches_are_equal():
    same = iter([*cut([50, 51])[:1] * 2, *cut([50, 51])[1:]])
    with pytest.raises(ValueError, match="source: expected a function that returns a new iterator"):
        jxs.landscape(loss, jxs.Stream(lambda: same), PLANE, **AXES)
    same = iter(cut([50, 51]))
    stream = jxs.Stream(lambda: same)
    list(stream)
    with pytest.raises(ValueError, match="source: expected a function that returns a new iterator"):
        list(stream)


class Loader:
    """A source that counts its passes."""

    def __init__(self, batches):
        self.batches, self.opened = batches, 0

    def __iter__(self):
        self.opened += 1
        return iter(self.batches)


class Resetting(Loader):
    """A source with one iterator, which each pass resets, as PyTorch's persistent workers do."""

    def __iter__(self):
        self.left = super().__iter__()
        return self

    def __next__(self):
        return next(self.left)


def test_an_iterator_that_each_pass_resets_is_accepted():
    loader = Resetting(cut([40, 1, 60]))
    stream = jxs.Stream(lambda: iter(loader))
    whole = jxs.landscape(loss, (X, LABELS), PLANE, **AXES)
    for _ in range(2):
        parts = jxs.landscape(loss, stream, PLANE, **AXES)
        np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-6)


def test_a_landscape_opens_a_source_once_before_its_pass():
    loader = Loader(cut([101]))
    jxs.landscape(loss, jxs.Stream(loader), PLANE, **AXES)
    assert loader.opened == 2


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: jxs.Stream(iter([X])),
            TypeError,
            "an iterable for several passes, got an iterator",
        ),
        (lambda: jxs.Stream(3), TypeError, "source: expected an iterable"),
        (lambda: list(jxs.Stream([])), ValueError, "at least one batch, got none"),
        (lambda: list(jxs.Stream([X], weight=lambda _: 0)), ValueError, "got 1 of weight 0"),
        (lambda: list(jxs.Stream([X], weight=lambda _: -1)), ValueError, "weight: expected"),
        (
            lambda: jxs.landscape(loss, jxs.Stream([]), PLANE, **AXES),
            ValueError,
            "at least one batch, got none",
        ),
        (
            lambda: jxs.landscape(loss, (batch for batch in [X]), PLANE, **AXES),
            TypeError,
            "data: expected arrays, or a Stream of batches, got generator; wrap an iterable",
        ),
        (
            lambda: jxs.landscape(loss, {"x": map(jnp.asarray, [X])}, PLANE, **AXES),
            TypeError,
            r"data\['x'\]: expected arrays, or a Stream of batches, got map",
        ),
        (
            lambda: list(jxs.Stream([(X, LABELS[:3])])),
            ValueError,
            "expected arrays that share their first axis",
        ),
        (
            lambda: jxs.landscape(lambda p, d: {}, X, PLANE, **AXES),
            TypeError,
            "got an empty dictionary",
        ),
        (
            lambda: jxs.landscape(lambda p, d: {"x": jnp.ones(2)}, X, PLANE, **AXES),
            TypeError,
            r"loss\['x'\]: expected a scalar, got an array of shape \(2,\)",
        ),
        (
            lambda: jxs.landscape(scores, (X, LABELS), PLANE, destination="nowhere", **AXES),
            ValueError,
            "destination: expected None with a loss of several scalars",
        ),
        (
            lambda: jxs.landscape(loss, jxs.Stream([(X, LABELS)]), PLANE, destination="x", **AXES),
            ValueError,
            "destination: expected None with a stream",
        ),
    ],
)
def test_bad_streams_and_losses_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_an_error_in_the_source_is_raised():
    def source():
        yield X, LABELS
        raise OSError("the disk failed")

    with pytest.raises(OSError, match="the disk failed"):
        jxs.landscape(loss, jxs.Stream(source), PLANE, **AXES)
