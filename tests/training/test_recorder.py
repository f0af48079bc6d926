"""Recorders of training loops: their paths, planes, projections and continued files."""

import tracemalloc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxscape as jxs
from jaxscape.planes import geometry
from jaxscape.training import projection, record_file
from jaxscape.training.recorder import Recorder
from tests.training.helpers import assert_holds, make_data, make_points, record_points


def with_others_of(first, expected):
    """Return the points with the leaves that are not recorded taken from `first`."""
    return [p | {name: first[name] for name in ("count", "key")} for p in expected]


def test_any_pytree_is_recorded_in_memory():
    record = record_points(None)
    assert_holds(record.path(), make_points(5))
    assert len(record) == 5
    np.testing.assert_array_equal(record.epoch, np.arange(5))
    assert repr(record) == "Recorder(5 points of 24 numbers, in memory)"


def test_a_recorded_loop_equals_the_path_of_descend(x64):
    """Shuffled mini-batches, three per epoch; every second step is recorded."""
    data = make_data(50, np.float64)
    optimizer, key = optax.adam(0.03), jax.random.key(1)
    start = jxs.Weights(jnp.float64(-0.4), jnp.float64(1.3))
    path = jxs.descend(
        jxs.squared_error, start, data, optimizer=optimizer, epochs=4, batch_size=17, key=key,
        record=2,
    )  # fmt: skip

    @jax.jit
    def update(params, state, batch):
        slope = jax.grad(jxs.squared_error)(params, batch)
        change, state = optimizer.update(slope, state)
        return optax.apply_updates(params, change), state

    record, params, state, step = Recorder(), start, optimizer.init(start), 0
    for epoch in range(4):
        for batch in jxs.data.batches(data, 17, jax.random.fold_in(key, epoch)):
            if step % 2 == 0:
                record(params, epoch=step / 3)
            params, state = update(params, state, batch)
            step += 1
    record(params, epoch=4)
    assert len(record) == len(path) == 7
    np.testing.assert_array_equal(record.epoch, path.epoch)
    plane = jxs.Plane.principal(record.path())
    ours, theirs = (jxs.project(jxs.squared_error, data, plane, p) for p in (record, path))
    for here, there in zip(record.path(), path.params, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-12)
    for field in ("coordinates", "loss", "surface_loss", "epoch"):
        here, there = getattr(ours, field), getattr(theirs, field)
        np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-12)


def test_recorded_arrays_are_copies():
    """The loop donates its arrays to the next step, deletes them, or overwrites them."""
    step = jax.jit(lambda p: jax.tree.map(lambda x: 2 * x, p), donate_argnums=0)
    params, record = {"w": jnp.arange(1.0, 4.0), "n": jnp.arange(1, 3)}, Recorder()
    counter = params["n"]
    own = np.ones(2, np.float32)
    for _ in range(4):
        record((params, own))
        params = step(params)
        own += 1
    if not counter.is_deleted():
        counter.delete()
    path, numpy_path = record.path()
    np.testing.assert_array_equal(path["w"], 2.0 ** np.arange(4)[:, None] * np.arange(1.0, 4.0))
    np.testing.assert_array_equal(path["n"], [1, 2])
    np.testing.assert_array_equal(numpy_path, 1 + np.repeat(np.arange(4.0), 2).reshape(4, 2))


def test_a_file_is_read_and_continued(tmp_path):
    file = tmp_path / "run.params"
    record = record_points(file, 4)
    assert repr(record) == f"Recorder(4 points of 24 numbers, in {str(file)!r})"
    # Another recorder reads the file while it is open for writing.
    reader = Recorder(file)
    assert_holds(reader.path(make_points(1)[0]), make_points(4))
    del record
    again = Recorder(str(file))
    for params in make_points(9)[4:]:
        again(params)
    assert_holds(again.path(), with_others_of(make_points(5)[4], make_points(9)))
    np.testing.assert_array_equal(again.epoch, np.arange(9))
    assert len(reader) == 4
    assert len(Recorder(file)) == 9


@pytest.mark.parametrize("where", ["memory", "temporary", "file"])
def test_rewound_points_are_deleted(where, tmp_path, monkeypatch):
    file = tmp_path / "run.params" if where == "file" else None
    if where == "temporary":
        monkeypatch.setattr(record_file, "_MAX_BYTES_IN_MEMORY", 0)
    record = Recorder(file)
    for k, params in enumerate(make_points(6)):
        record(params, epoch=k / 2)
    path = record.path()
    with pytest.raises(ValueError, match=r"expected 2.5 or more.*got 1; rewind\(1\)"):
        record(make_points(1)[0], epoch=1)
    record.rewind(1.2)
    np.testing.assert_array_equal(record.epoch, [0, 0.5, 1])
    # An earlier path keeps the deleted points.
    assert path["w"].shape == (6, 3, 5)
    assert np.isfinite(np.asarray(path["w"])).all()
    record(make_points(1, seed=1)[0], epoch=1.5)
    expected = [*make_points(3), make_points(1, seed=1)[0]]
    assert_holds(record.path(), expected)
    if file:
        assert_holds(Recorder(file).path(make_points(1)[0]), expected)
    record.rewind(-1)
    assert len(record) == 0
    record(make_points(1)[0])
    np.testing.assert_array_equal(record.epoch, [0])


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_path_of_a_diverged_run_ends_before_the_divergence(on_disk, tmp_path):
    file = tmp_path / "run.params" if on_disk else None
    record = Recorder(file)
    with pytest.raises(ValueError, match="path: expected a recorder with a finite point, got Rec"):
        record.path()
    values = [1.0, 3.0, 9.0, np.inf, 2.0]
    for value in values:
        record([np.float32(value), jnp.ones(2)])
    np.testing.assert_array_equal(record.path()[0], values[:3])
    assert len(record) == 5
    assert "5 points of 3 numbers, not finite at point 3" in repr(record)
    loss, plane = lambda p, _: p[0] ** 2 + p[1][0], jxs.Plane([0.0, jnp.ones(2)], *DIRECTIONS)
    seen = jxs.project(loss, None, plane, record)
    np.testing.assert_allclose(seen.loss, [2, 10, 82])
    np.testing.assert_array_equal(seen.epoch, [0, 1, 2])
    if on_disk:
        assert "not finite at point 3" in repr(Recorder(file))
    with pytest.raises(ValueError, match="path: expected a recorder with a finite point, got Rec"):
        jxs.project(loss, None, plane, Recorder())
    bad = Recorder()
    bad([np.float32(np.nan), jnp.ones(2)])
    with pytest.raises(ValueError, match="with a finite point, got Recorder.1 points"):
        jxs.project(loss, None, plane, bad)


DIRECTIONS = [1.0, None], [None, jnp.ones(2)]
FIRST = {"w": jnp.ones((2, 3)), "b": [jnp.ones(3), jnp.int32(2)], "f": jnp.tanh}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            FIRST | {"w": jnp.ones((3, 2))},
            r"params\['w'\]: expected float32\[2,3\], as in the first record, got float32\[3,2\]",
        ),
        (
            FIRST | {"b": [jnp.ones(3, jnp.bfloat16), 2]},
            r"params\['b'\]\[0\]: expected float32\[3\], .*got bfloat16\[3\]",
        ),
        (
            FIRST | {"b": [jnp.ones(3), jnp.float32(2)]},
            r"params\['b'\]\[1\]: expected no floating numbers, .*got float32\[\]",
        ),
        (FIRST | {"w": jnp.ones((2, 3), int)}, r"\['w'\]: expected float32.*no floating numbers"),
        (FIRST | {"c": jnp.ones(1)}, r"params\['c'\]: expected no floating.*float32\[1\]"),
        ({"w": FIRST["w"], "f": jnp.tanh}, r"params\['b'\]\[0\]: expected float32\[3\]"),
        (FIRST | {"b": tuple(FIRST["b"])}, "params: expected the first record's structure"),
        (FIRST | {"more": "text"}, "params: expected the first record's structure"),
        ({"n": jnp.ones(2, int), "f": jnp.tanh}, "params: expected floating numbers, got none"),
    ],
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_parameters_that_differ_from_the_first_raise_an_error(params, message, on_disk, tmp_path):
    file = tmp_path / "run.params" if on_disk else None
    record = Recorder(file)
    record(FIRST)
    with pytest.raises(ValueError, match=message):
        record(params)
    assert len(record) == 1
    record(FIRST)
    assert record.path()["w"].shape == (2, 2, 3)
    if on_disk and message.startswith(r"params\['w"):
        # The file stores names, shapes and dtypes.
        del record
        with pytest.raises(ValueError, match=message):
            Recorder(file)(params)
        with pytest.raises(ValueError, match=message):
            Recorder(file).path(params)


def test_a_plane_through_other_parameters_raises_an_error():
    record = Recorder()
    record([1.0, jnp.ones(3)])
    plane = jxs.Plane([0.0, jnp.ones(2)], *DIRECTIONS)
    with pytest.raises(ValueError, match=r"params\[1\]: expected float32\[3\].*got float32\[2\]"):
        jxs.project(lambda p, _: p[0], None, plane, record)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: r(FIRST, epoch="1"), TypeError, "epoch: expected a number, got '1'"),
        (lambda r: r(FIRST, epoch=True), TypeError, "epoch: expected a number, got True"),
        (lambda r: r(FIRST, epoch=np.nan), ValueError, "epoch: expected a finite number, got nan"),
        (lambda r: r(FIRST, epoch=-1), ValueError, "epoch: expected 0 or more"),
        (lambda r: r.rewind(None), TypeError, "epoch: expected a number, got None"),
        (
            lambda r: jax.jit(lambda w: r(FIRST | {"w": w}))(FIRST["w"]),
            TypeError,
            "params: expected arrays, got traced ones",
        ),
    ],
)
def test_wrong_epochs_and_traced_parameters_raise_an_error(call, error, message):
    record = Recorder()
    record(FIRST)
    with pytest.raises(error, match=message):
        call(record)
    assert len(record) == 1


def test_a_path_from_a_file_needs_parameters_of_the_structure(tmp_path):
    Recorder(tmp_path / "run.params")(FIRST)
    with pytest.raises(ValueError, match="params: expected parameters of the recorded structure"):
        Recorder(tmp_path / "run.params").path()
    shapes = jax.eval_shape(lambda: {k: v for k, v in FIRST.items() if k != "f"}) | {"f": "other"}
    path = Recorder(tmp_path / "run.params").path(shapes)
    assert path["f"] == "other"
    np.testing.assert_array_equal(path["w"], np.ones((1, 2, 3)))


X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
DATA = jxs.Dataset(X, np.sin(X[:, :1]))


def train_equinox():
    """Yield models, whose leaves include activation functions, during training."""
    model = eqx.filter_jit(eqx.nn.MLP)(3, 1, 5, 2, key=jax.random.key(0))
    optimizer = optax.adam(0.05)
    loss = jxs.squared_error.of(lambda m, x: jax.vmap(m)(x))
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit(donate="all")
    def step(model, state):
        change, state = optimizer.update(eqx.filter_grad(loss)(model, DATA), state)
        return eqx.apply_updates(model, change), state

    for _ in range(8):
        yield model, loss
        model, state = step(model, state)


def train_nnx():
    """Yield states during training, which hold random keys and counters that change."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 5, rngs=rngs)
            self.dropout = nnx.Dropout(0.1, rngs=rngs)
            self.second = nnx.Linear(5, 1, rngs=rngs)

        def __call__(self, x):
            return self.second(self.dropout(jnp.tanh(self.first(x))))

    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.05), wrt=nnx.Param)
    model.eval()
    definition = nnx.graphdef(model)
    loss = jxs.squared_error.of(lambda state, x: nnx.merge(definition, state)(x))

    @nnx.jit
    def step(model, optimizer):
        slope = nnx.grad(lambda m: jnp.mean((m(X) - DATA.y) ** 2))(model)
        optimizer.update(model, slope)

    for _ in range(8):
        yield nnx.state(model), loss
        model.train()
        step(model, optimizer)
        model.eval()


@pytest.mark.parametrize("train", [train_equinox, train_nnx])
def test_a_recorded_model_is_projected_onto_its_planes(train, tmp_path):
    record, losses, kept = Recorder(tmp_path / "run.params"), [], []
    for params, loss in train():
        record(params)
        losses.append(float(loss(params, DATA)))
        kept.append(jax.tree.map(lambda x: x + 0 if eqx.is_inexact_array(x) else x, params))
    assert losses[-1] < 0.9 * losses[0]
    plane = jxs.Plane.principal(record.path())
    seen = jxs.project(loss, DATA, plane, record)
    np.testing.assert_allclose(seen.loss, losses, rtol=1e-5)
    assert seen.distance[-1] < 1e-6
    np.testing.assert_allclose(seen.surface_loss[-1], losses[-1], rtol=1e-5)
    # The plane through three points contains their losses, and no others.
    through = jxs.Plane.through(*(kept[k] for k in (0, 3, 7)))
    seen = jxs.project(loss, DATA, through, Recorder(tmp_path / "run.params"))
    np.testing.assert_allclose(seen.distance[[0, 3, 7]], 0, atol=1e-6)
    np.testing.assert_allclose(seen.surface_loss[[0, 3, 7]], seen.loss[[0, 3, 7]], rtol=1e-5)
    assert abs(seen.surface_loss[5] / seen.loss[5] - 1) > 1e-3
    surface = jxs.landscape(loss, DATA, plane, a=(-1, 1, 5), b=(-1, 1, 3))
    assert jxs.plot.contour(surface, jxs.project(loss, DATA, plane, record)).data


def peak_memory(function):
    """Return the largest number of bytes that Python holds during a call."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_path_on_disk_is_read_piece_by_piece(tmp_path, monkeypatch):
    """At most a quarter of its 12.8 MB is in memory; in float64 the whole would take twice that."""
    record = Recorder(tmp_path / "run.params")
    generator = np.random.default_rng(0)
    for _ in range(64):
        record({"w": generator.normal(size=(5, 10_000)).astype(np.float32)})
    path = record.path()
    whole = path["w"].nbytes
    monkeypatch.setattr(geometry, "_MAX_NUMBERS", 2**15)
    monkeypatch.setattr(projection, "_BLOCK_BYTES", 2**20)
    plane = jxs.Plane.random(jax.random.key(0), {"w": jnp.array(path["w"][0])})
    stream = jxs.Stream([jnp.ones(5), 2 * jnp.ones(5)])

    def loss(params, batch):
        return jnp.mean((batch @ params["w"]) ** 2)

    for data in (jnp.ones(5), stream):
        assert peak_memory(lambda d=data: jxs.project(loss, d, plane, record)) < whole / 4
    # The measure does see a path that is read as a whole.
    assert peak_memory(lambda: np.asarray(path["w"], np.float64)) > 1.9 * whole
