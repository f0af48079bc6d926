"""Losses are proved to be means over samples or not, and summed sample by sample in all cells."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import jaxscape as jxs
from jaxscape.grid import sample_mean
from jaxscape.planes.plane import weight_plane

N = 37
X = np.linspace(-1.7, 2.3, N).astype(np.float32)
DATA = jxs.Dataset(X, np.sin(1.3 * X) + 0.25)
OUTSIDE = jnp.asarray(X)
HALF = jnp.float32(0.5)
TABLES = jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0])


def mean_of_single_samples(loss, p):
    x, y = np.asarray(DATA.x, float), np.asarray(DATA.y, float)
    return np.mean([loss(p, jxs.Dataset(x[k : k + 1], y[k : k + 1])) for k in range(N)])


def residual(p, d):
    return p.w2 * jnp.tanh(p.w1 * d.x) - d.y


def with_penalty(p, d):
    return jnp.sum(jnp.abs(residual(p, d))) / len(d.x) + 1e-3 * (p.w1**2 + jnp.abs(p.w2))


def mean_of_relu(p, d):
    return jnp.mean(jnp.where(d.y > 0, jax.nn.relu(p.w1 * d.x) * p.w2, jax.nn.softplus(d.x)))


def sum_of_two_means(p, d):
    return 0.3 * jnp.mean(residual(p, d) ** 2) - jnp.mean(d.x * p.w1) / 3.5 + jnp.mean(d.y)


def mean_of_columns(p, d):
    x, y = d.x[:, None], d.y.reshape(N if len(d.x) == N else 1, 1)
    return jnp.mean(optax.huber_loss(p.w2 * jnp.sin(p.w1 * x), y, delta=HALF))


def mean_of_logits(p, d):
    labels = jnp.where(d.y > 0.2, 1.0, 0.0)
    return optax.sigmoid_binary_cross_entropy(p.w1 * d.x + p.w2, labels).mean()


@jax.jit
def mean_in_a_call(p, d):
    return jnp.mean(jnp.exp(residual(p, d)))


def with_a_vector_of_weights(p, d):
    weights = jnp.stack([p.w1, p.w2])
    return jnp.mean(jnp.cos(weights[0] * d.x)) + weights @ weights


def mean_of_constants(p, d):
    return jnp.mean(jnp.full_like(d.x, 3.5) * p.w1)


def half_of_the_mean(p, d):
    return jnp.sum(residual(p, d) ** 2) / (2 * len(d.x))


MEANS = [
    with_penalty,
    mean_of_relu,
    sum_of_two_means,
    mean_of_columns,
    mean_of_logits,
    mean_in_a_call,
    with_a_vector_of_weights,
    mean_of_constants,
    half_of_the_mean,
]


@pytest.mark.parametrize("loss", MEANS, ids=lambda loss: loss.__name__)
def test_a_sample_mean_equals_the_mean_of_its_values_on_single_samples(loss, x64):
    data = jax.tree.map(lambda x: jnp.asarray(x, float), DATA)
    assert sample_mean.is_summed_by_sample(loss, weight_plane(), data, jnp.float64)
    grid = jxs.landscape(loss, data, w1=(-2, 1.5, 9), w2=(-1, 2.5, 5))
    jitted = jax.jit(loss)
    for i, j in [(0, 0), (3, 4), (8, 1)]:
        p = jxs.Weights(grid.a.values[i], grid.b.values[j])
        np.testing.assert_allclose(grid.loss[i, j], jitted(p, data), rtol=1e-13)
        np.testing.assert_allclose(grid.loss[i, j], mean_of_single_samples(jitted, p), rtol=1e-13)


def root(p, d):
    return jnp.sqrt(jnp.mean(residual(p, d) ** 2))


def total(p, d):
    return jnp.sum(residual(p, d) ** 2)


def total_times_the_count(p, d):
    return jnp.mean(residual(p, d) ** 2) * len(d.x)


def count_in_a_penalty(p, d):
    return jnp.mean(residual(p, d) ** 2) + p.w1**2 / len(d.x)


def count_in_a_call(p, d):
    return jnp.mean(residual(p, d) ** 2) + jax.jit(lambda n: n + p.w1)(float(len(d.x)))


def count_from_a_call(p, d):
    return jnp.mean(residual(p, d) ** 2) * jax.jit(lambda _: float(len(d.x)))(p.w1)


def another_loss_for_few_samples(p, d):
    return jnp.mean(jnp.abs(residual(p, d)) if len(d.x) > 5 else residual(p, d))


def weights_exchanged_for_few_samples(p, d):
    first, second = (p.w1, p.w2) if len(d.x) > 5 else (p.w2, p.w1)
    return jnp.mean(jnp.tanh(first * d.x) * second)


def power_that_depends_on_the_count(p, d):
    return jnp.mean(residual(p, d) ** (4 if len(d.x) > 5 else 2))


def variance(p, d):
    return jnp.var(residual(p, d))


def centered(p, d):
    return jnp.mean(jnp.abs(p.w1 * (d.x - jnp.mean(d.x))))


def mean_of_differences(p, d):
    return jnp.sum(jnp.abs(p.w1 * jnp.diff(d.x, prepend=0.0))) / len(d.x)


def mean_of_running_sums(p, d):
    return jnp.mean(jnp.cumsum(p.w1 * d.x))


def largest_error(p, d):
    return jnp.max(jnp.abs(residual(p, d)))


def times_an_outside_array(p, d):
    return jnp.mean(p.w1 * d.x * OUTSIDE[: len(d.x)])


def product_of_means(p, d):
    return jnp.mean(p.w1 * d.x) * jnp.mean(d.y)


def relative(p, d):
    return jnp.mean(residual(p, d) ** 2) / jnp.mean(d.y**2)


def times_the_index(p, d):
    return jnp.mean(jnp.arange(len(d.x)) * p.w1 * d.x)


def divided_by_a_constant(p, d):
    return jnp.sum(residual(p, d) ** 2) / float(N)


def refuses_one_sample(p, d):
    if len(d.x) < 5:
        raise ValueError("d: expected 5 samples")
    return jnp.mean(residual(p, d) ** 2)


def sum_in_a_scan(p, d):
    def step(sum_, pair):
        return sum_ + (p.w2 * jnp.tanh(p.w1 * pair[0]) - pair[1]) ** 2, None

    return lax.scan(step, 0.0 * p.w1, (d.x, d.y))[0] / len(d.x)


def mean_of_pairs(p, d):
    return jnp.sum(p.w1 * d.x[:, None] * d.y[None, :]) / len(d.x)


def largest_error_over_the_count(p, d):
    return jnp.max(jnp.abs(residual(p, d))) / len(d.x)


def mean_and_total(p, d):
    return jnp.mean(residual(p, d) ** 2) + jnp.sum(residual(p, d))


def total_and_penalty(p, d):
    return jnp.sum(residual(p, d) ** 2) + p.w1


def one_more_operation_for_many_samples(p, d):
    value = jnp.mean(residual(p, d) ** 2)
    return value + p.w1 if len(d.x) > 5 else value


def another_mean_for_few_samples(p, d):
    sample_mean = jnp.mean(residual(p, d)), jnp.mean(jnp.abs(residual(p, d)))
    return sample_mean[len(d.x) > 5]


def another_table_for_few_samples(p, d):
    return jnp.mean(residual(p, d)) + jnp.sum(TABLES[len(d.x) > 5] * p.w1)


def another_table_in_a_call_for_few_samples(p, d):
    table = TABLES[len(d.x) > 5]
    return jnp.mean(residual(p, d)) + jax.jit(lambda w: jnp.sum(table * w))(p.w1)


def with_a_loop_over_weights(p, d):
    root, _ = lax.fori_loop(0, 50, lambda _, r: (jnp.cos(r[0]), r[1]), (p.w1, p.w2))
    return jnp.mean(root * d.x)


def penalty_as_long_as_the_data(p, d):
    return jnp.mean(residual(p, d) ** 2) + jnp.sum(jnp.full(N, p.w1) ** 2) / len(d.x)


def weights_as_many_as_samples(p, d):
    return jnp.sum(jnp.broadcast_to(p.w1, (N, 1)) * 2.0) / len(d.x) + jnp.mean(d.x)


def printing(p, d):
    jax.debug.print("{}", p.w1)
    return jnp.mean(residual(p, d) ** 2)


def printing_in_a_call(p, d):
    return jax.jit(printing)(p, d)


OTHERS = [
    penalty_as_long_as_the_data,
    weights_as_many_as_samples,
    printing,
    printing_in_a_call,
    root,
    total,
    total_times_the_count,
    count_in_a_penalty,
    count_in_a_call,
    variance,
    centered,
    count_from_a_call,
    another_loss_for_few_samples,
    weights_exchanged_for_few_samples,
    power_that_depends_on_the_count,
    mean_of_differences,
    mean_of_running_sums,
    largest_error,
    times_an_outside_array,
    product_of_means,
    relative,
    times_the_index,
    mean_of_pairs,
    divided_by_a_constant,
    refuses_one_sample,
    sum_in_a_scan,
    with_a_loop_over_weights,
    largest_error_over_the_count,
    mean_and_total,
    total_and_penalty,
    one_more_operation_for_many_samples,
    another_mean_for_few_samples,
    another_table_for_few_samples,
    another_table_in_a_call_for_few_samples,
]


@pytest.mark.parametrize("loss", OTHERS, ids=lambda loss: loss.__name__)
def test_other_losses_are_not_proved_to_be_sample_means(loss):
    assert not sample_mean.is_summed_by_sample(loss, weight_plane(), DATA, jnp.float32)


OPERATIONS = [
    *(lambda a, b, k: a + b, lambda a, b, k: a * b, lambda a, b, k: a - b),
    *(lambda a, b, k: a / k, lambda a, b, k: a * k, lambda a, b, k: jnp.tanh(a)),
    *(lambda a, b, k: jnp.full(int(k), a), lambda a, b, k: jnp.broadcast_to(a, (N,))),
    *(lambda a, b, k: a[:, None], lambda a, b, k: jnp.reshape(a, -1)),
    *(lambda a, b, k: jnp.sum(a), lambda a, b, k: jnp.mean(a), lambda a, b, k: jnp.max(a)),
    *(lambda a, b, k: jnp.sum(a, axis=-1), lambda a, b, k: jnp.stack([a, b])),
    *(lambda a, b, k: jnp.where(a > 0, a, b), lambda a, b, k: jnp.arange(int(k)) * a),
    *(lambda a, b, k: jax.jit(lambda v: v * k)(a), lambda a, b, k: jnp.sum(a) / k),
    *(lambda a, b, k: jnp.repeat(a, int(k)), lambda a, b, k: jnp.squeeze(a)),
]


def program(rng):
    """Return a random loss, which is mostly not a mean and uses n in many places."""
    steps = [rng.random(4) for _ in range(rng.integers(2, 8))]

    def loss(p, d):
        n = len(d.x)
        values = [p.w1, p.w2, d.x, d.y]
        for step, first, second, third in steps:
            a, b = (values[int(u * len(values))] for u in (first, second))
            k = (2, n, N, n - 1, 1 / n, 2 * n)[int(6 * third)]
            # Operations on values that do not fit together are left out.
            with contextlib.suppress(TypeError, ValueError, IndexError):
                values.append(OPERATIONS[int(step * len(OPERATIONS))](a, b, k))
        return jnp.sum(values[-1]) / n + jnp.mean(values[-2])

    return loss


def test_random_losses_that_are_proved_are_sample_means(x64):
    data = jax.tree.map(lambda x: np.asarray(x, float), DATA)
    p, proved = jxs.Weights(np.float64(0.7), np.float64(-1.3)), 0
    for seed in range(250):
        loss = program(np.random.default_rng(seed))
        try:
            whole = jax.eval_shape(loss, p, data)
        except (TypeError, ValueError):
            continue
        if whole.shape == () and sample_mean.is_mean_over_samples(loss, data, p):
            proved += 1
            jitted = jax.jit(loss)
            expected = mean_of_single_samples(jitted, p)
            np.testing.assert_allclose(jitted(p, data), expected, rtol=1e-9)
    assert proved > 10


def test_parameters_with_as_many_numbers_as_samples_are_not_samples():
    def loss(w, d):
        return jnp.sum(jnp.abs(w * d.x)) / len(d.x)

    assert sample_mean.is_mean_over_samples(loss, DATA, jnp.float32(1.5))
    assert not sample_mean.is_mean_over_samples(loss, DATA, jnp.ones(N))


def test_a_loss_that_is_not_a_sample_mean_is_computed_in_tiles(x64):
    data = jax.tree.map(lambda x: jnp.asarray(x, float), DATA)
    grid = jxs.landscape(variance, data, w1=(-2, 1.5, 3), w2=(-1, 2.5, 4))
    p = jxs.Weights(grid.a.values[2], grid.b.values[1])
    np.testing.assert_allclose(grid.loss[2, 1], variance(p, data), rtol=1e-12)


@pytest.mark.parametrize(
    "data",
    [
        None,
        jxs.Dataset([1.0], [2.0]),
        jxs.Dataset(np.ones((5, 2)), np.ones((5, 2))),
        {"x": jnp.ones(4), "y": jnp.ones(5)},
        {"x": jnp.ones(4, jnp.float16), "y": jnp.ones(4, jnp.float16)},
    ],
    ids=["none", "one sample", "two numbers per sample", "unequal", "half precision"],
)
def test_data_must_be_samples_of_one_number(data):
    def loss(w, d):
        leaves = jax.tree.leaves(d)
        return jnp.mean(leaves[0] * w) if leaves else w

    assert not sample_mean.is_mean_over_samples(loss, data, jnp.float16(0.5))


def test_data_may_be_a_dictionary_with_integers_and_scalars():
    k = np.arange(N)
    data = {"x": jnp.asarray(X), "class": jnp.asarray(k % 3), "scale": jnp.float32(0.7)}

    def loss(p, d):
        return jnp.mean(jnp.where(d["class"] == 1, p.w1 * d["x"], p.w2) * d["scale"])

    assert sample_mean.is_summed_by_sample(loss, weight_plane(), data, jnp.float32)
    grid = jxs.landscape(loss, data, w1=(-2, 1.5, 4), w2=(-1, 2.5, 3))
    a, b = (np.asarray(axis.values, float)[:, None] for axis in (grid.a, grid.b))
    expected = np.where(k % 3 == 1, a[:, None] * X.astype(float), b) * np.float64(np.float32(0.7))
    np.testing.assert_allclose(grid.loss, expected.mean(axis=-1), rtol=2e-6, atol=1e-7)


def test_a_nonfinite_sample_makes_only_its_cells_nonfinite():
    def loss(p, d):
        return jnp.mean(jnp.log(d.x * p.w1 + 1.8) + p.w2)

    assert sample_mean.is_summed_by_sample(loss, weight_plane(), DATA, jnp.float32)
    with pytest.warns(jxs.NonFiniteWarning):
        grid = jxs.landscape(loss, DATA, w1=(0.5, 2, 7), w2=(-1, 1, 3))
    expected = [bool(np.isfinite(loss(jxs.Weights(a, 0.0), DATA))) for a in grid.a.values]
    assert 0 < sum(expected) < 7
    np.testing.assert_array_equal(np.isfinite(grid.loss), np.repeat(expected, 3).reshape(7, 3))


def test_derivatives_follow_the_rules_of_the_loss(x64):
    """The derivative of relu at 0 is 0 by its own rule, and 1/2 by the rule of the maximum."""
    data = jxs.Dataset([0.0, -1.0, 2.0], [0.5, 1.0, -1.0])

    def loss(p, d):
        return jnp.mean(jax.nn.relu(d.x - p.w1) * d.y + p.w2)

    def corner(x):
        moved = jxs.Dataset(x, data.y)
        return jxs.landscape(loss, moved, w1=(0.0, 1.0, 2), w2=(0.0, 1.0, 2)).loss[0, 0]

    assert sample_mean.is_summed_by_sample(loss, weight_plane(), data, jnp.float64)
    np.testing.assert_allclose(jax.grad(corner)(data.x), [0, 0, -1 / 3])


def test_a_custom_model_with_sample_weights_is_summed_by_sample(x64):
    data = jxs.Dataset(X, X**2, 0.3 + np.arange(N) % 4)

    def predict(p, x):
        return p["slope"] * x + jnp.sin(p["shift"])

    loss = jxs.absolute_error.of(predict)
    origin = {"slope": jnp.array(0.4), "shift": jnp.array(-0.3)}
    plane = jxs.Plane(origin, {"slope": 1.0, "shift": None}, {"slope": 0.5, "shift": -2.0})
    assert sample_mean.is_summed_by_sample(loss, plane, data, jnp.float64)
    grid = jxs.landscape(loss, data, plane, a=(-1, 2, 6), b=(-1, 1, 4))
    for i, j in [(0, 3), (5, 0), (2, 2)]:
        at = plane.at(grid.a.values[i], grid.b.values[j])
        np.testing.assert_allclose(grid.loss[i, j], loss(at, data), rtol=1e-12)


@pytest.mark.parametrize(
    "parts",
    [lambda x: lax.split(x, (1,) * len(x)), jax.jit(lambda x: [x[0]] * len(x))],
    ids=["split", "jit"],
)
def test_a_number_of_outputs_that_depends_on_the_samples_is_no_proof(parts):
    def loss(p, d):
        return jnp.sum(parts(d.x)[0] * p.w1 * p.w2)

    assert not sample_mean.is_summed_by_sample(loss, weight_plane(), DATA, jnp.float32)
    grid = jxs.landscape(loss, DATA, w1=(-1, 2, 3), w2=(-1, 3, 2))
    np.testing.assert_allclose(grid.loss, X[0] * np.outer([-1, 0.5, 2], [-1, 3]), rtol=1e-6)


def test_checkpointed_losses_are_left_to_the_tiles():
    def loss(p, d):
        return jnp.mean(jax.checkpoint(jnp.tanh)(p.w1 * d.x) * p.w2)

    assert not sample_mean.is_summed_by_sample(loss, weight_plane(), DATA, jnp.float32)


def test_blocks_of_samples_equal_a_loop(x64):
    """Numbers of samples around those of a step and of a block, with weights and without."""
    generator = np.random.default_rng(4)
    a, b = np.linspace(-1, 2, 3), np.linspace(-2, 1, 2)
    for n, weighted in ((1, True), (8, False), (9, True), (700, True), (6001, False)):
        x, y = generator.normal(size=(2, n))
        data = jxs.Dataset(x, y, generator.uniform(0, 2, n) if weighted else None)
        losses = jax.jit(sample_mean.losses_by_sample, static_argnums=0)(
            jxs.absolute_error, weight_plane(), a, b, data
        )
        errors = abs(b[:, None] * np.tanh(a[:, None, None] * x) - y)
        np.testing.assert_allclose(
            losses, np.average(errors, axis=-1, weights=data.sample_weight), rtol=1e-13
        )


@pytest.mark.parametrize(
    "loss",
    [
        jxs.absolute_error.of(jxs.TwoWeightNetwork(lambda z: z - z.mean() * (z.size > 17))),
        jxs.PointwiseLoss(lambda p, y: jnp.cumsum(p - y), jxs.TwoWeightNetwork(), "running"),
    ],
    ids=["activation", "error"],
)
def test_a_two_weight_network_is_not_summed_by_sample_without_a_proof(loss, x64):
    data = jax.tree.map(lambda x: np.asarray(x, float), DATA)
    grid = jxs.landscape(loss, data, w1=(-2, 1.5, 3), w2=(-1, 2.5, 4))
    p = jxs.Weights(grid.a.values[2], grid.b.values[1])
    np.testing.assert_allclose(grid.loss[2, 1], loss(p, data), rtol=1e-12)


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu, jax.nn.gelu, jnp.sin])
def test_the_two_weight_network_is_summed_by_sample(activation):
    network = jxs.TwoWeightNetwork(activation)
    for loss in (jxs.absolute_error, jxs.log_cosh, jxs.huber(0.3)):
        assert sample_mean.is_summed_by_sample(loss.of(network), weight_plane(), DATA, jnp.float32)


def test_many_parameters_are_left_to_the_tiles():
    def loss(p, d):
        return jnp.mean(jnp.abs(p[0] * d.x - p[1])) + jnp.sum(p**2)

    for count, expected in ((2, True), (40, False)):
        u, v = np.eye(count, dtype=np.float32)[:2]
        plane = jxs.Plane(jnp.ones(count), u, v)
        assert sample_mean.is_summed_by_sample(loss, plane, DATA, jnp.float32) == expected
