"""Asked for "exact", a function of one's own is a parabola a row, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape.grid.parabola import quadratic_losses
from tests import reference
from tests.grid.test_parabola import EXACT_FLOAT32, error_to_range

AXES = {"a": (-1, 1.5, 7), "b": (-2, 1, 9)}
SIZES = {"w": (3, 6), "c": (1, 6), "v": (6, 2), "d": (1, 2)}


def make(dtype=np.float32):
    generator = np.random.default_rng(5)
    params, data = (
        {name: jnp.asarray(generator.normal(size=size), dtype) for name, size in sizes.items()}
        for sizes in (SIZES, {"x": (31, 3), "y": (31, 2)})
    )
    return params, data


def plane(first, second, dtype=np.float32):
    generator, (params, _) = np.random.default_rng(6), make(dtype)
    u, v = (
        {
            name: jnp.asarray(generator.normal(size=leaf.shape), dtype) if name in names else None
            for name, leaf in params.items()
        }
        for names in (first, second)
    )
    return jxs.Plane(params, u, v)


def predict(params, x):
    return jnp.tanh(x @ params["w"] + params["c"]) @ params["v"] + params["d"]


def squares(params, data):
    return jnp.mean((predict(params, data["x"]) - data["y"]) ** 2)


def decayed(params, data):
    """A parabola as well, with its lowest point elsewhere."""
    return squares(params, data) / 2 + 0.1 * sum(jnp.sum(p**2) for p in params.values())


def linear(params, data):
    return jnp.mean(predict(params, data["x"]) * data["y"])


def downward(params, data):
    return 3 - decayed(params, data)


@pytest.mark.parametrize("loss", [squares, decayed, linear, downward])
def test_it_is_the_loss_of_a_loop(loss, x64):
    where = plane("wcv", "vd", np.float64) if loss is not linear else plane("wc", "vd", np.float64)
    _, data = make(np.float64)
    surface = jxs.landscape(loss, data, where, method="exact", **AXES)
    assert surface.method == "exact"
    loop = [[loss(where.at(a, b), data) for b in surface.b.values] for a in surface.a.values]
    np.testing.assert_allclose(surface.loss, loop, rtol=1e-12, atol=1e-13)
    assert jxs.landscape(loss, data, where, **AXES).method == "dense"


@pytest.mark.parametrize("teacher", [(1.5, 0.8), (-0.7, 1.9)])
def test_it_keeps_its_digits_where_the_loss_reaches_zero(teacher):
    data = jxs.data.teacher_student(jax.random.key(0), 3000, jxs.Weights(*teacher))
    w1, w2 = map(abs, teacher)
    axes = {"w1": (-2 * w1, 2 * w1, 41), "w2": (-2 * w2, 2 * w2, 33)}
    surface = jxs.landscape(lambda w, d: jxs.squared_error(w, d), data, method="exact", **axes)
    truth = reference.surface(surface, data)
    assert truth.min() < 1e-12 * truth.max()
    assert error_to_range(surface, truth) < EXACT_FLOAT32


def test_rows_are_checked_over_streams_and_in_bands_alike(tmp_path):
    where, (_, data) = plane("wc", "vd"), make()
    batches = [jax.tree.map(lambda x, k=k: x[k], data) for k in (slice(0, 20), slice(20, 31))]
    whole = jxs.landscape(squares, data, where, **AXES)
    for given, options in (
        (jxs.Stream(batches), {}),
        (data, {"memory": 6000}),
        (data, {"destination": tmp_path / "grid"}),
    ):
        found = jxs.landscape(squares, given, where, method="exact", **options, **AXES)
        np.testing.assert_allclose(found.loss, whole.loss, rtol=1e-5)


def test_what_is_not_finite_stays_so():
    where, (_, data) = plane("wc", "vd"), make()

    def lost(params, data):
        """NaN in the rows beyond a = 0.5, and infinite in those of a = -1."""
        a = (params["c"] - where.origin["c"])[0, 0] / where.u["c"][0, 0]
        value = jnp.where(a > 0.5, jnp.nan, squares(params, data))
        return jnp.where(a < -0.9, jnp.inf, value)

    with pytest.warns(jxs.NonFiniteWarning):
        found = jxs.landscape(lost, data, where, method="exact", **AXES)
    with pytest.warns(jxs.NonFiniteWarning):
        dense = jxs.landscape(lost, data, where, **AXES)
    np.testing.assert_array_equal(found.nonfinite, dense.nonfinite)
    assert found.nonfinite.any(axis=1).tolist() == [True, False, False, False] + 3 * [True]


def cross_entropy(params, data):
    labels = jnp.argmax(data["y"], axis=1)
    return optax.softmax_cross_entropy_with_integer_labels(
        predict(params, data["x"]), labels
    ).mean()


def capped(params, data):
    """A parabola within the grid but for its last column."""
    late = (params["d"] - plane("wc", "vd").origin["d"])[0, 0] / plane("wc", "vd").v["d"][0, 0]
    return squares(params, data) * jnp.where(late > 0.99, 0.99, 1.0)


REFUSED = [
    (squares, ("v", "w")),
    (squares, ("w", "wcvd")),
    (cross_entropy, ("wc", "vd")),
    (capped, ("wc", "vd")),
    (lambda p, d: jnp.abs(squares(p, d) - 3.0), ("wc", "vd")),
]


@pytest.mark.parametrize(("loss", "along"), REFUSED)
def test_what_is_no_parabola_is_refused(loss, along, tmp_path):
    where, (_, data) = plane(*along), make()
    message = "'exact' does not hold here: at a = .*, b = .* the loss is .* on the parabola"
    for options in ({}, {"memory": 6000}, {"destination": tmp_path / "grid"}):
        with pytest.raises(ValueError, match=message):
            jxs.landscape(loss, data, where, method="exact", **options, **AXES)
    # No row of a wrong surface is on disk, and the folder is free for what the message says to do.
    with pytest.raises(ValueError, match="was not written by jaxscape"):
        jxs.archive.load(tmp_path / "grid")
    dense = jxs.landscape(loss, data, where, destination=tmp_path / "grid", **AXES)
    assert dense.method == "dense"


@pytest.mark.parametrize(("loss", "along"), REFUSED[:3])
def test_it_would_have_been_a_wrong_surface(loss, along):
    """The twin: unchecked, the parabolas are far from the loss somewhere."""
    where, (_, data) = plane(*along), make()
    dense = jxs.landscape(loss, data, where, **AXES)
    ours, checked = jax.jit(quadratic_losses, static_argnums=0)(
        loss, where, dense.a.values, dense.b.values, data
    )
    assert np.abs(ours / dense.loss - 1).max() > 0.05
    assert checked.wrong.mean() > 0.8


def test_what_cannot_be_checked_is_refused():
    where, (_, data) = plane("wc", "vd"), make()

    def several(params, data):
        return {"loss": squares(params, data)}

    with pytest.raises(ValueError, match="'exact' does not hold here: the loss returns several"):
        jxs.landscape(several, data, where, method="exact", **AXES)
    with pytest.raises(ValueError, match="could not be checked under a transformation"):
        jax.jit(lambda d: jxs.landscape(squares, d, where, method="exact", **AXES).loss)(data)

    def through_what_it_holds(scale):
        def scaled(params, data):
            return scale * squares(params, data)

        return jxs.landscape(scaled, data, where, method="exact", **AXES).loss

    with pytest.raises(ValueError, match="could not be checked under a transformation"):
        jax.jit(through_what_it_holds)(2.0)


def test_a_row_takes_as_many_products_however_many_cells_it_has():
    """Read off the computation."""
    where, (_, data) = plane("wc", "vd"), make()

    def products(n):
        grid = jnp.linspace(-1, 1, 5), jnp.linspace(-2, 1, n)
        text = str(jax.make_jaxpr(lambda a, b: quadratic_losses(squares, where, a, b, data))(*grid))
        return text.count("dot_general[")

    assert products(9) == products(900)


def function(height, shape, offset):
    return lambda weights, _: offset + height * shape(weights.w2)


@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("shape", [lambda b: jnp.abs(b - 0.1), lambda b: jnp.sin(3 * b)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_offset_hides_nothing(offset, shape, dtype, request):
    if dtype is np.float64:
        request.getfixturevalue("x64")
    axes = {"w1": (-1, 1, 3), "w2": (-1, 1, 6)}
    with pytest.raises(ValueError, match="'exact' does not hold here"):
        jxs.landscape(function(0.01, shape, offset), None, method="exact", **axes)
    bowl = function(0.01, lambda b: (b - 0.1) ** 2, offset)
    found = jxs.landscape(bowl, None, method="exact", **axes)
    assert found.loss.dtype == dtype
    truth = offset + 0.01 * (np.asarray(found.b.values, np.float64) - 0.1) ** 2
    loss = np.asarray(found.loss, np.float64)
    np.testing.assert_allclose(loss - truth, 0, atol=40 * np.finfo(dtype).eps * (offset + 1))


def test_a_parabola_near_a_perfect_fit_is_accepted():
    """Its predictions are rounded: half of the digits of the loss are not there."""
    where, (params, data) = plane("wc", "vd"), make()
    data["y"] = predict(params, data["x"])
    axes = {"a": (-1e-4, 1e-4, 5), "b": (-1e-4, 1e-4, 7)}
    dense = jxs.landscape(squares, data, where, **axes).loss
    found = jxs.landscape(squares, data, where, method="exact", **axes).loss
    off = np.abs(found - dense).max() / dense.max()
    assert off < 1e-2
