"""Data, optimizers, starts and interruptions that tests of training share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxscape as jxs
from jaxscape._util import blocks
from jaxscape.training.recorder import Recorder

# A batch of runs adds the same numbers in a different order.
REORDERED = 2e-6

START = jxs.Weights(-0.4, 1.3)
STARTS = jxs.Weights(
    np.array([-0.4, 1.2, 0.3, -2.0, 0.9], np.float32),
    np.array([1.3, 0.1, -0.8, 0.5, 1.1], np.float32),
)
SGD = optax.sgd(0.05)
INJECTED = optax.inject_hyperparams(optax.sgd)(learning_rate=0.05, momentum=0.5)
RATES = np.array([0.01, 0.03, 0.002, 0.05, 0.02])


def make_data(n=107, dtype=np.float32):
    """Return noisy data that the two-weight network cannot fit."""
    generator = np.random.default_rng(n)
    x = generator.normal(0.3, 2.0, n)
    y = np.sin(x) + 0.4 * x + generator.normal(0, 0.5, n)
    return jxs.Dataset(x.astype(dtype), y.astype(dtype))


def quadratic(x, samples):
    """A loss of curvature 4: gradient descent converges for rates below 2/4."""
    return 2 * x**2 * jnp.mean(samples)


def start_of(run):
    """Return one of the starts in `STARTS`."""
    return jax.tree.map(lambda leaf: leaf[run], STARTS)


def assert_same_run(one, other, rtol=REORDERED, atol=1e-6):
    """Check that all recorded numbers of two trajectories agree, up to rounding."""
    for name, value in vars(one).items():
        if name in ("name", "steps_per_epoch", "gradient_norm"):
            continue
        for u, v in zip(jax.tree.leaves(value), jax.tree.leaves(getattr(other, name)), strict=True):
            np.testing.assert_allclose(u, v, rtol=rtol, atol=atol, err_msg=name)
    scale = max(1.0, float(other.loss[0]))
    np.testing.assert_allclose(one.gradient_norm, other.gradient_norm, rtol=1e-4, atol=1e-5 * scale)


def interrupt_after(monkeypatch, units):
    """Press Ctrl-C when all progress bars together have counted `units`."""
    done = 0

    class Bar:
        def __init__(self, total, unit):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            nonlocal done
            done += count
            if done >= units:
                raise KeyboardInterrupt

    monkeypatch.setattr(blocks, "bar", Bar)


# The bytes of a row of `make_points`: four leaves with numbers and its end, up to 64 bytes each.
ROW = 320


def make_points(count, seed=0):
    """Return parameters of several dtypes and shapes, with other leaves beside them."""
    generator = np.random.default_rng(seed)
    return [
        {
            "w": jnp.asarray(generator.normal(size=(3, 5)), jnp.float32),
            "half": (jnp.asarray(generator.normal(size=7), jnp.bfloat16), jnp.float16(k)),
            "none": jnp.zeros((0, 3)),
            "number": 0.5 + k,
            "count": jnp.int32(k),
            "key": jax.random.key(k),
            "function": jnp.tanh,
            "empty": None,
        }
        for k in range(count)
    ]


def record_points(file, count=5, **options):
    """Return a recorder of `make_points`."""
    record = Recorder(file)
    for params in make_points(count, **options):
        record(params)
    return record


def assert_holds(path, expected):
    """Check that a path has the points' floating numbers and the other leaves of the first."""
    first = expected[0]
    assert jax.tree.structure(path) == jax.tree.structure(first)
    assert path["function"] is jnp.tanh
    assert path["count"] == first["count"]
    assert path["key"] == first["key"]
    for pick in (
        lambda p: p["w"],
        lambda p: p["half"][0],
        lambda p: p["half"][1],
        lambda p: p["none"],
        lambda p: np.float32(p["number"]),
    ):
        leaf = pick(path)
        stacked = np.stack([np.asarray(pick(p)) for p in expected])
        assert leaf.dtype == stacked.dtype
        np.testing.assert_array_equal(leaf, stacked)
