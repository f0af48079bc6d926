"""Points recorded in loops of one's own: in memory, on disk, cut off, gone on with, and drawn."""

import gc
import mmap
import resource
import tempfile
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

# Bytes of a row: four leaves with numbers and its end, each of up to 64.
ROW = 320


def points(count, seed=0):
    """Parameters of several dtypes and shapes, one of them without numbers, beside other leaves."""
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


def assert_holds(path, expected):
    """The path has these points' floating numbers to the bit, and the first's other leaves."""
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
        found = pick(path)
        stacked = np.stack([np.asarray(pick(p)) for p in expected])
        assert found.dtype == stacked.dtype
        np.testing.assert_array_equal(found, stacked)


def with_others_of(first, expected):
    """The points, the leaves that are not recorded being those of another."""
    return [p | {name: first[name] for name in ("count", "key")} for p in expected]


def is_mapped(array):
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array is not None


def recorded(file, count=5, **kwargs):
    record = Recorder(file)
    for params in points(count, **kwargs):
        record(params)
    return record


def test_any_pytree_in_memory():
    record = recorded(None)
    assert_holds(record.path(), points(5))
    assert len(record) == 5
    np.testing.assert_array_equal(record.epoch, np.arange(5))
    assert repr(record) == "Recorder(5 points of 24 numbers, in memory)"
    assert not is_mapped(record.path()["w"])


def test_a_loop_of_ones_own_is_what_descend_records(x64):
    """Shuffled mini-batches, three an epoch, every second step."""
    data = jxs.data.noisy_sine(jax.random.key(0), n=50)
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


def test_what_becomes_of_an_array_after_it_was_recorded_does_not_matter():
    """Donated to the next step, deleted, or, of NumPy, written over."""
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
    found, of_numpy = record.path()
    np.testing.assert_array_equal(found["w"], 2.0 ** np.arange(4)[:, None] * np.arange(1.0, 4.0))
    np.testing.assert_array_equal(found["n"], [1, 2])
    np.testing.assert_array_equal(of_numpy, 1 + np.repeat(np.arange(4.0), 2).reshape(4, 2))


def test_beyond_the_memory_points_go_to_a_temporary_file(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(record_file, "_MAX_BYTES_IN_MEMORY", 3 * ROW)
    record = recorded(None, 3)
    assert "in memory" in repr(record)
    early = record.path()
    record(points(4)[3])
    assert "in a temporary file" in repr(record)
    record = recorded(None, 7)
    assert repr(record) == "Recorder(7 points of 24 numbers, in a temporary file)"
    path = record.path()
    assert is_mapped(path["w"])
    with pytest.raises(ValueError, match="read-only"):
        path["w"][0] = 0
    record(points(8)[-1])
    assert_holds(record.path(), points(8))
    # What was taken before stays, also when the recorder goes, and no file is left.
    del record
    gc.collect()
    assert_holds(path, points(7))
    assert_holds(early, points(3))
    assert not list(tmp_path.iterdir())


def test_a_file_is_read_and_gone_on_with(tmp_path):
    file = tmp_path / "run.params"
    record = recorded(file, 4)
    assert repr(record) == f"Recorder(4 points of 24 numbers, in {str(file)!r})"
    # Read while it is written, as from a notebook.
    reader = Recorder(file)
    assert_holds(reader.path(points(1)[0]), points(4))
    del record
    again = Recorder(str(file))
    for params in points(9)[4:]:
        again(params)
    assert_holds(again.path(), with_others_of(points(5)[4], points(9)))
    np.testing.assert_array_equal(again.epoch, np.arange(9))
    assert len(reader) == 4
    assert len(Recorder(file)) == 9


@pytest.mark.parametrize("cut", [1, 100, 319, 320, 321])
def test_a_row_that_was_cut_off_is_none(tmp_path, cut):
    """Of four rows: the file ends within the last, at its start, or before."""
    file = tmp_path / "run.params"
    recorded(file, 4)
    size = file.stat().st_size
    assert record_file._row_layout(Recorder(file)._rows.leaves)[1] == ROW
    with file.open("r+b") as handle:
        handle.truncate(size - cut)
    left = 3 if cut <= ROW else 2
    record = Recorder(file)
    assert len(record) == left
    for params in points(6)[left:]:
        record(params)
    assert_holds(record.path(points(6)[0]), points(6))
    assert (file.stat().st_size - record._rows._rows_start) % ROW == 0


def test_a_file_cut_off_before_its_first_row_is_begun_anew(tmp_path):
    file = tmp_path / "run.params"
    recorded(file, 1)
    header = file.read_bytes().split(b"\n")[0]
    for size in (0, 5, len(header) // 2, len(header)):
        file.write_bytes(header[:size])
        assert len(Recorder(file)) == 0
        recorded(file, 2)
        assert_holds(Recorder(file).path(points(1)[0]), points(2))


def test_a_disk_that_is_full(tmp_path):
    """The system refuses to write beyond a size; what is there is kept, and gone on with."""
    file = tmp_path / "run.params"
    record = recorded(file, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, hard))
    try:
        with pytest.raises(OSError, match=r"file: cannot write to .*the 3 points recorded before"):
            record(points(4)[3])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.stat().st_size % ROW != 0
    assert len(record) == len(Recorder(file)) == 3
    for params in points(5)[3:]:
        record(params)
    assert_holds(record.path(), points(5))
    assert len(Recorder(file)) == 5


@pytest.mark.parametrize("where", ["memory", "temporary", "file"])
def test_rewound_points_are_gone_for_good(where, tmp_path, monkeypatch):
    file = tmp_path / "run.params" if where == "file" else None
    if where == "temporary":
        monkeypatch.setattr(record_file, "_MAX_BYTES_IN_MEMORY", 0)
    record = Recorder(file)
    for k, params in enumerate(points(6)):
        record(params, epoch=k / 2)
    path = record.path()
    with pytest.raises(ValueError, match=r"expected 2.5 or more.*got 1; rewind\(1\)"):
        record(points(1)[0], epoch=1)
    record.rewind(1.2)
    np.testing.assert_array_equal(record.epoch, [0, 0.5, 1])
    # The rows behind are not in the way of who has them mapped.
    assert path["w"].shape == (6, 3, 5)
    assert np.isfinite(np.asarray(path["w"])).all()
    record(points(1, seed=1)[0], epoch=1.5)
    expected = [*points(3), points(1, seed=1)[0]]
    assert_holds(record.path(), expected)
    if file:
        # Nor do they come back.
        assert_holds(Recorder(file).path(points(1)[0]), expected)
    record.rewind(-1)
    assert len(record) == 0
    record(points(1)[0])
    np.testing.assert_array_equal(record.epoch, [0])


def test_a_kill_while_rewound_rows_are_written_over_leaves_no_mixed_row(tmp_path):
    """The end of a row is written last, and says that it is none until then."""
    file = tmp_path / "run.params"
    record = recorded(file, 4)
    record.rewind(0)
    start = record._rows._rows_start
    del record
    other = recorded(tmp_path / "other", 2, seed=1)
    del other
    row = (tmp_path / "other").read_bytes()[start + ROW :]
    for written in (1, 200, ROW - 8):
        with file.open("r+b") as handle:
            handle.seek(start + ROW)
            handle.write(row[:written])
        assert len(Recorder(file)) == 1
    with file.open("r+b") as handle:
        handle.seek(start + ROW)
        handle.write(row)
    assert_holds(Recorder(file).path(points(1)[0]), [points(1)[0], points(2, seed=1)[1]])


def test_one_recorder_at_a_time_writes_to_a_file(tmp_path):
    file = tmp_path / "run.params"
    first, second = Recorder(file), Recorder(file)
    first(points(1)[0])
    with pytest.raises(OSError, match="another recorder writes to"):
        second(points(1)[0])
    with pytest.raises(OSError, match="another recorder writes to"):
        second.rewind(0)
    first(points(2)[1])
    del first
    gc.collect()
    # It has seen no row of the first's yet.
    assert len(second) == 0
    second(points(3)[2])
    assert len(second) == 3
    np.testing.assert_array_equal(second.epoch, [0, 1, 2])


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_path_of_a_run_that_diverged_ends_before(on_disk, tmp_path):
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
def test_other_parameters_are_refused(params, message, on_disk, tmp_path):
    file = tmp_path / "run.params" if on_disk else None
    record = Recorder(file)
    record(FIRST)
    with pytest.raises(ValueError, match=message):
        record(params)
    assert len(record) == 1
    record(FIRST)
    assert record.path()["w"].shape == (2, 2, 3)
    if on_disk and message.startswith(r"params\['w"):
        # The file alone knows them too.
        del record
        with pytest.raises(ValueError, match=message):
            Recorder(file)(params)
        with pytest.raises(ValueError, match=message):
            Recorder(file).path(params)


def test_a_plane_through_other_parameters_is_refused():
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
def test_other_calls_are_refused(call, error, message):
    record = Recorder()
    record(FIRST)
    with pytest.raises(error, match=message):
        call(record)
    assert len(record) == 1


def test_a_file_alone_does_not_know_the_structure(tmp_path):
    Recorder(tmp_path / "run.params")(FIRST)
    with pytest.raises(ValueError, match="params: expected parameters of the recorded structure"):
        Recorder(tmp_path / "run.params").path()
    shapes = jax.eval_shape(lambda: {k: v for k, v in FIRST.items() if k != "f"}) | {"f": "other"}
    path = Recorder(tmp_path / "run.params").path(shapes)
    assert path["f"] == "other"
    np.testing.assert_array_equal(path["w"], np.ones((1, 2, 3)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some other file\n", "was not written by a recorder"),
        (b'{"jaxscape": "something else"}\n', "was not written by a recorder"),
        (b'{"jaxscape": "recorder", "schema": 1, "leaves": [["w", "float33", []]]}\n', "damaged"),
        (b'{"jaxscape": "recorder", "schema": 1}\n', "is damaged: 'leaves'"),
        (b'{"jaxscape": "recorder", "schema": 99}\n', "a newer jaxscape .schema 99"),
    ],
)
def test_other_files_are_refused_and_left_as_they_are(content, message, tmp_path):
    file = tmp_path / "run.params"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Recorder(file)
    assert file.read_bytes() == content


def test_places_where_no_file_can_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="file: expected a folder that exists"):
        Recorder(tmp_path / "nowhere" / "run.params")
    with pytest.raises(ValueError, match="file: expected a file, got the folder"):
        Recorder(tmp_path)


X = jax.random.normal(jax.random.key(0), (20, 3))
DATA = jxs.Dataset(X, jnp.sin(X[:, :1]))


def of_equinox():
    """The model holds activation functions among its leaves."""
    model = eqx.nn.MLP(3, 1, 5, 2, key=jax.random.key(0))
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


def of_nnx():
    """The state holds random keys and counters, which change, beside the parameters."""

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


@pytest.mark.parametrize("make", [of_equinox, of_nnx])
def test_a_model_recorded_in_a_loop_is_seen_from_its_planes(make, tmp_path):
    record, losses, kept = Recorder(tmp_path / "run.params"), [], []
    for params, loss in make():
        record(params)
        losses.append(float(loss(params, DATA)))
        kept.append(jax.tree.map(lambda x: x + 0 if eqx.is_inexact_array(x) else x, params))
    assert losses[-1] < 0.9 * losses[0]
    plane = jxs.Plane.principal(record.path())
    seen = jxs.project(loss, DATA, plane, record)
    np.testing.assert_allclose(seen.loss, losses, rtol=1e-5)
    assert seen.distance[-1] < 1e-6
    np.testing.assert_allclose(seen.surface_loss[-1], losses[-1], rtol=1e-5)
    # Of a plane through three points, their losses are the surface's; off it, they are not.
    through = jxs.Plane.through(*(kept[k] for k in (0, 3, 7)))
    seen = jxs.project(loss, DATA, through, Recorder(tmp_path / "run.params"))
    np.testing.assert_allclose(seen.distance[[0, 3, 7]], 0, atol=1e-6)
    np.testing.assert_allclose(seen.surface_loss[[0, 3, 7]], seen.loss[[0, 3, 7]], rtol=1e-5)
    assert abs(seen.surface_loss[5] / seen.loss[5] - 1) > 1e-3
    surface = jxs.landscape(loss, DATA, plane, a=(-1, 1, 5), b=(-1, 1, 3))
    assert jxs.plot.contour(surface, jxs.project(loss, DATA, plane, record)).data


def traced_peak(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_path_on_disk_is_never_in_memory_whole(tmp_path, monkeypatch):
    """Of 12.8 MB, a quarter at most at once; in float64 it would be twice as much."""
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
        assert traced_peak(lambda d=data: jxs.project(loss, d, plane, record)) < whole / 4
    # The measure sees what is read whole.
    assert traced_peak(lambda: np.asarray(path["w"], np.float64)) > 1.9 * whole
