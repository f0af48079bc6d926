"""Optimizers against independent implementations, and the checks and settings of optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape.training.optimizers import (
    check_optimizer,
    injected_names,
    learning_rate,
    set_hyperparameters,
    stability_factor,
    update,
)
from tests.training.helpers import make_data, start_of

START, BATCH = (-1.0, -1.0), 128

OPTIMIZERS = {
    "SGD": optax.sgd(0.01),
    "momentum": optax.sgd(0.01, 0.9),
    "nesterov": optax.sgd(0.01, 0.9, nesterov=True),
    "rmsprop": optax.rmsprop(0.01, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "adam": optax.adam(0.05),
    "adamw": optax.adamw(0.05, weight_decay=0.1),
    "lion": optax.lion(0.01, weight_decay=0.1),
    "clipped, scheduled": optax.chain(
        optax.clip_by_global_norm(0.2), optax.sgd(optax.cosine_decay_schedule(0.3, 80))
    ),
}


@pytest.fixture(scope="module")
def arrays():
    train, _ = jxs.article.data()
    return tuple(np.asarray(v, np.float64)[: 50 * BATCH] for v in (train.x, train.y))


@pytest.fixture(scope="module")
def paths(arrays):
    """Return the paths of 100 steps of every optimizer in float64."""
    with jax.enable_x64(True):
        return jxs.descend(
            jxs.squared_error,
            jxs.Weights(*START),
            jxs.Dataset(*arrays),
            optimizer=OPTIMIZERS,
            epochs=2,
            batch_size=BATCH,
            record="step",
        )


def gradient_at(w, x, y):
    hidden = np.tanh(w[0] * x)
    slope = 2 * (w[1] * hidden - y)
    return np.array([np.mean(slope * w[1] * (1 - hidden**2) * x), np.mean(slope * hidden)])


def sgd(w, g, t, m):
    return w - 0.01 * g


def momentum(w, g, t, m):
    """Polyak's velocity without damping, as Sutskever et al. (2013) write it."""
    m["v"] = 0.9 * m.get("v", 0) + g
    return w - 0.01 * m["v"]


def nesterov(w, g, t, m):
    m["v"] = 0.9 * m.get("v", 0) + g
    return w - 0.01 * (g + 0.9 * m["v"])


def rmsprop(w, g, t, m):
    """Hinton's lecture 6e, with a decay of 0.99."""
    m["s"] = 0.99 * m.get("s", 0) + 0.01 * g**2
    return w - 0.01 * g / (np.sqrt(m["s"]) + 1e-8)


def adam_direction(g, t, m):
    m["m"] = 0.9 * m.get("m", 0) + 0.1 * g
    m["s"] = 0.999 * m.get("s", 0) + 0.001 * g**2
    return m["m"] / (1 - 0.9**t) / (np.sqrt(m["s"] / (1 - 0.999**t)) + 1e-8)


def adam(w, g, t, m):
    """Kingma and Ba (2015), algorithm 1."""
    return w - 0.05 * adam_direction(g, t, m)


def adamw(w, g, t, m):
    """Loshchilov and Hutter (2019), algorithm 2."""
    return w - 0.05 * (adam_direction(g, t, m) + 0.1 * w)


def lion(w, g, t, m):
    """Chen et al. (2023), algorithm 2."""
    old = m.get("m", 0)
    m["m"] = 0.99 * old + 0.01 * g
    return w - 0.01 * (np.sign(0.9 * old + 0.1 * g) + 0.1 * w)


def clipped(w, g, t, m):
    """Pascanu et al. (2013), algorithm 1; half a cosine over 80 steps, then 0."""
    g = g * min(1, 0.2 / np.linalg.norm(g))
    return w - 0.3 * (1 + np.cos(np.pi * min(t - 1, 80) / 80)) / 2 * g


FORMULAS = (sgd, momentum, nesterov, rmsprop, adam, adamw, lion, clipped)


@pytest.mark.slow
def test_optimizers_follow_the_published_formulas(arrays, paths):
    """100 steps with batches of 128 in NumPy."""
    x, y = arrays
    for name, rule in zip(OPTIMIZERS, FORMULAS, strict=True):
        w, state = np.array(START), {}
        visited = [w]
        for t, k in enumerate(2 * list(range(0, len(x), BATCH)), start=1):
            part = slice(k, k + BATCH)
            w = rule(w, gradient_at(w, x[part], y[part]), t, state)
            visited.append(w)
        steps = np.stack(paths[name].params, axis=1)
        np.testing.assert_allclose(steps, visited, rtol=1e-8, err_msg=name)


@pytest.mark.slow
def test_optimizers_agree_with_pytorch(arrays, paths):
    """The same 100 steps."""
    torch = pytest.importorskip("torch")
    makers = {
        "SGD": lambda p: torch.optim.SGD(p, 0.01),
        "momentum": lambda p: torch.optim.SGD(p, 0.01, 0.9),
        "nesterov": lambda p: torch.optim.SGD(p, 0.01, 0.9, nesterov=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01),
        "adam": lambda p: torch.optim.Adam(p, 0.05),
        "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1),
    }
    x, y = arrays
    for name, make in makers.items():
        weights = torch.tensor(START, dtype=torch.float64, requires_grad=True)
        other, visited = make([weights]), [list(START)]
        for k in 2 * list(range(0, len(x), BATCH)):
            u, v = (torch.from_numpy(array[k : k + BATCH]) for array in (x, y))
            other.zero_grad()
            torch.mean((weights[1] * torch.tanh(weights[0] * u) - v) ** 2).backward()
            other.step()
            visited.append(weights.detach().tolist())
        steps = np.stack(paths[name].params, axis=1)
        np.testing.assert_allclose(steps, visited, rtol=1e-8, err_msg=name)


def two_loops(gradient, pairs):
    """Nocedal and Wright, algorithm 7.4, from the last steps and changes of the gradient."""
    q, factors = gradient, []
    for s, v in reversed(pairs):
        factor = s @ q / (s @ v)
        q = q - factor * v
        factors.append(factor)
    s, v = pairs[-1]
    r = s @ v / (v @ v) * q
    for (s, v), factor in zip(pairs, reversed(factors), strict=True):
        r = r + s * (factor - v @ r / (s @ v))
    return -r


def test_an_lbfgs_step_is_its_direction_times_the_recorded_learning_rate(x64):
    """The line search ends at a point that satisfies the Wolfe conditions."""
    x = np.linspace(-2, 3, 41)
    y = 0.8 * np.tanh(1.5 * x) + 0.1 * np.cos(7 * x)
    path = jxs.descend(
        jxs.squared_error,
        jxs.Weights(0.4, -0.2),
        jxs.Dataset(x, y),
        optimizer=optax.lbfgs(memory_size=3),
        epochs=14,
    )
    assert path.learning_rate.shape == (15,)
    assert np.isfinite(path.learning_rate).all()
    points = np.stack(path.params, axis=1)
    gradients = np.array([gradient_at(point, x, y) for point in points])
    steps, changes = np.diff(points, axis=0), np.diff(gradients, axis=0)
    assert np.linalg.norm(gradients[-1]) < 1e-3 * np.linalg.norm(gradients[0])
    for k in range(1, len(steps)):
        pairs = list(zip(steps[:k], changes[:k], strict=True))[-3:]
        direction = two_loops(gradients[k], pairs)
        rate = path.learning_rate[k + 1]
        np.testing.assert_allclose(steps[k], rate * direction, rtol=1e-6, err_msg=str(k))
        slope = gradients[k] @ direction
        assert path.loss[k + 1] <= path.loss[k] + 1e-4 * rate * slope
        assert abs(gradients[k + 1] @ direction) <= 0.9 * abs(slope)


@pytest.mark.parametrize(
    ("optimizer", "truth"),
    [
        (
            optax.inject_hyperparams(optax.sgd)(optax.exponential_decay(0.1, 5, 0.5)),
            lambda t: 0.1 * 0.5 ** (t / 5),
        ),
        (
            optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.adam)(0.03)),
            lambda t: 0.03 + 0 * t,
        ),
        (optax.sgd(0.1), None),
    ],
)
def test_the_learning_rate_is_recorded_as_it_was_applied(optimizer, truth):
    path = jxs.descend(jxs.squared_error, start_of(0), make_data(), optimizer=optimizer, epochs=12)
    if truth is None:
        assert path.learning_rate is None
    else:
        # The first step is numbered 0; the start has the rate of the first step.
        np.testing.assert_allclose(
            path.learning_rate, truth(np.maximum(np.arange(13) - 1, 0)), rtol=1e-5
        )


def test_sam_may_ascend_for_many_steps_before_it_descends():
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.01))
    path = jxs.descend(
        jxs.squared_error,
        start_of(0),
        make_data(23),
        optimizer=optax.contrib.sam(optax.sgd(0.05), ascent, sync_period=12),
        epochs=24,
        record=12,
    )
    assert path.loss[2] < path.loss[1] < path.loss[0]


def test_sam_takes_the_gradient_at_the_worst_nearby_point(x64):
    """Foret et al. (2021), equations 2 and 3, for a function of one number."""
    rho, rate = 0.3, 0.05
    optimizer = optax.contrib.sam(
        optax.sgd(rate), optax.chain(optax.contrib.normalize(), optax.sgd(rho)), opaque_mode=True
    )
    path = jxs.descend(lambda x, _: x**4 - x, 1.5, np.ones(2), optimizer=optimizer, epochs=6)
    x = 1.5
    for point in path.params[1:]:
        worst = x + rho * np.sign(4 * x**3 - 1)
        x = x - rate * (4 * worst**3 - 1)
        np.testing.assert_allclose(point, x, rtol=1e-12)


def test_hyperparameters_may_be_negative_if_the_optimizer_descends():
    """The logarithm of a rate, and a negative momentum."""
    log = optax.inject_hyperparams(lambda log, m: optax.sgd(10.0**log, m))(log=-1.0, m=0.0)
    runs = jxs.descend(
        lambda x, _: x,
        0.0,
        np.ones(2, np.float32),
        optimizer=log,
        epochs=1,
        hyperparameters={"log": [-1, -2, 1], "m": -0.5},
    )
    np.testing.assert_allclose(runs.final_params, [-0.1, -0.01, -10], rtol=1e-6)


@pytest.mark.parametrize("rates", [[0.1, 0.5, 2.5], [1, 3, 2]])
def test_an_integer_learning_rate_can_be_replaced_by_a_float(rates):
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=1)
    runs = jxs.descend(
        lambda x, _: x,
        0.0,
        np.ones(2, np.float32),
        optimizer=sgd,
        epochs=1,
        hyperparameters={"learning_rate": jnp.array(rates, jnp.bfloat16)},
    )
    given = np.array(jnp.array(rates, jnp.bfloat16), float)
    np.testing.assert_allclose(runs.final_params, -given, rtol=1e-6)
    np.testing.assert_allclose(runs.learning_rate[:, 1], given, rtol=1e-6)


NESTED = optax.inject_hyperparams(
    lambda outer: optax.chain(
        optax.scale(outer), optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.5)
    )
)(outer=1.0)


def test_hyperparameters_are_set_at_all_depths():
    params = {"w": jnp.ones(2)}
    state = set_hyperparameters(NESTED.init(params), {"outer": 3, "momentum": 0.25}, jnp.float32)
    names, scheduled = injected_names(NESTED, params)
    assert names >= {"outer", "learning_rate", "momentum"}
    assert scheduled == set()
    assert learning_rate(state, jnp.float32) == np.float32(0.1)
    change, state = NESTED.update(params, state, params)
    np.testing.assert_allclose(change["w"], -0.3 * np.ones(2), rtol=1e-6)
    change, _ = NESTED.update(params, state, params)
    np.testing.assert_allclose(change["w"], -0.3 * (1 + 0.25) * np.ones(2), rtol=1e-6)


def test_there_is_no_learning_rate_unless_the_state_has_exactly_one():
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    params = jnp.ones(2)
    assert learning_rate(optax.sgd(0.1).init(params), jnp.float32) is None
    assert learning_rate(optax.chain(injected, injected).init(params), jnp.float32) is None
    rate = learning_rate(injected.init(params), jnp.float16)
    assert rate == np.float16(0.1)
    assert rate.dtype == jnp.float16


def test_an_update_gets_only_the_extra_arguments_that_it_accepts():
    def rule(gradient, state, params, value):
        return -value * gradient, state

    optimizer = optax.GradientTransformation(lambda params: (), rule)
    change, _ = update(optimizer, 2.0, (), 1.0, 3.0, lambda params: params)
    assert change == -6


@pytest.mark.parametrize(
    ("optimizer", "values", "error", "message"),
    [
        (3, {}, TypeError, "name: expected an optax gradient transformation"),
        (
            optax.sgd(-0.1),
            {},
            ValueError,
            "name: .* got updates that ascend along a gradient",
        ),
        (optax.sgd(np.inf), {}, ValueError, "name: .* got an update that is not finite"),
        (NESTED, {"beta": 1.0}, ValueError, r"got 'beta'; it has \['learning_rate', 'momentum', "),
        (NESTED, {"outer": np.array([1.0, -2.0])}, ValueError, r"'outer'\]: .* at -2 got updates"),
    ],
)
def test_optimizers_that_do_not_descend_raise_an_error(optimizer, values, error, message):
    with pytest.raises(error, match=message):
        check_optimizer("name", optimizer, {"w": np.ones((2, 3), np.float32)}, values)


def injected(factory, learning_rate=0.3, **arguments):
    return optax.inject_hyperparams(factory)(learning_rate=learning_rate, **arguments)


def factor_of(optimizer, params=None):
    params = {"w": np.ones((3, 5)), "b": np.float64(0)} if params is None else params
    find = jax.jit(lambda p: stability_factor(optimizer, optimizer.init(p), p, jnp.float64))
    factor = find(params)
    return factor if factor is None else float(factor)


def diverges(optimizer, curvature):
    """Return whether |x| grows on curvature·x²/2 over the last of 2000 steps."""

    def step(state, _):
        x, optimizer_state = state
        change, optimizer_state = optimizer.update(curvature * x, optimizer_state, x)
        return (x + change, optimizer_state), x

    _, x = jax.jit(lambda: jax.lax.scan(step, (1.0, optimizer.init(1.0)), length=2000))()
    return bool(jnp.abs(x[-500:]).max() > jnp.abs(x[:500]).max())


def halved(learning_rate, momentum):
    """Return a heavy ball whose gradients are halved."""
    return optax.chain(
        optax.trace(momentum), optax.scale(0.5), optax.scale_by_learning_rate(learning_rate)
    )


@pytest.mark.parametrize("b", [-0.5, 0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize(
    ("factory", "arguments", "formula"),
    [
        (optax.sgd, {}, lambda b: 2 * (1 + b)),
        (optax.sgd, {"nesterov": True}, lambda b: 2 * (1 + b) / (1 + 2 * b) if b >= 0 else None),
        (halved, {}, lambda b: 4 * (1 + b)),
    ],
)
def test_the_stability_factor_is_where_descents_on_a_quadratic_diverge(
    factory, arguments, formula, b, x64
):
    optimizer = injected(factory, momentum=b, **arguments)
    factor = factor_of(optimizer)
    if (expected := formula(b)) is not None:
        assert factor == pytest.approx(expected, rel=1e-12)
    assert not diverges(optimizer, 0.99 * factor / 0.3)
    assert diverges(optimizer, 1.01 * factor / 0.3)


def test_gradient_descent_has_a_stability_factor_of_exactly_2():
    for rate in (0.1, 0.3, optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100)):
        optimizer = injected(optax.sgd, rate)
        for dtype in (jnp.float32, jnp.bfloat16):
            params = jnp.ones(3, dtype)
            state = optimizer.init(params)
            assert float(stability_factor(optimizer, state, params, jnp.float32)) == 2


def chained(*others):
    return lambda learning_rate: optax.chain(*others, optax.sgd(learning_rate, 0.9))


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1),
        optax.adam(0.1),
        optax.lbfgs(),
        injected(optax.adam),
        injected(optax.rmsprop),
        injected(optax.adagrad),
        injected(optax.lion),
        injected(optax.sign_sgd),
        injected(optax.lars),
        injected(chained(optax.clip_by_global_norm(1.0))),
        injected(chained(optax.clip(50.0))),
        injected(chained(optax.add_decayed_weights(1e-4))),
        injected(chained(optax.scale_by_schedule(optax.linear_schedule(1, 0, 1000)))),
        injected(optax.sgd, momentum=optax.linear_schedule(0, 0.9, 1000)),
        injected(optax.sgd, momentum=1.0),
        optax.chain(injected(optax.sgd), injected(optax.sgd)),
        injected(
            lambda learning_rate: optax.partition(
                {"w": optax.sgd(learning_rate), "b": optax.sgd(2 * learning_rate)},
                {"w": "w", "b": "b"},
            )
        ),
    ],
)
def test_optimizers_without_a_known_bound_have_no_stability_factor(optimizer, x64):
    factor = factor_of(optimizer)
    assert factor is None or np.isnan(factor)


def test_the_stability_factor_has_no_derivative():
    """Otherwise 0 / 0 in it would make derivatives by hyperparameters NaN."""

    def factor(rate):
        optimizer = injected(optax.sgd, momentum=0.0)
        state = set_hyperparameters(optimizer.init(1.0), {"learning_rate": rate}, jnp.float32)
        return stability_factor(optimizer, state, jnp.float32(1), jnp.float32)

    assert jax.grad(factor)(0.3) == 0
