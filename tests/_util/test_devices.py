"""Several devices and processes compute the same grid as one, and fail together."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh

import jaxscape as jxs
from jaxscape._util import devices
from jaxscape._util.pytree import Static
from jaxscape.critical import newton
from jaxscape.planes import gradient
from jaxscape.training import basins, limits
from tests.grid.helpers import AXES, make_data, mean_cube
from tests.helpers import child_environment

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
HEADER = """
import sys
sys.path.insert(0, {tests!r})
import warnings
warnings.simplefilter("error")
import jax
import jax.numpy as jnp
import numpy as np
import jaxscape as jxs
from jax.sharding import Mesh
from tests._util.test_devices import landscapes
from tests.grid.helpers import AXES, make_data, mean_cube
"""


def landscapes(**options):
    """Return a landscape for each strategy, of 37 rows, which neither 2 nor 4 nor 8 divide."""
    return {
        name: jxs.landscape(loss, make_data(), **(AXES | options))
        for name, loss in (
            ("exact", jxs.squared_error),
            ("summed", jxs.absolute_error),
            ("tiled", mean_cube),
        )
    }


def run(program, **environment):
    """Run a program in a process of its own, after the imports of `HEADER`."""
    return subprocess.run(
        [sys.executable, "-c", HEADER.format(tests=str(Path(__file__).parents[2])) + program],
        capture_output=True,
        text=True,
        env=child_environment(**environment),
        check=False,
    )


SHARDED = """
from jaxscape._util import devices
from jaxscape.grid.plan import Problem, make_plan
from jaxscape.planes.plane import weight_plane

assert len(jax.devices()) == 8
one = Mesh(np.array(jax.devices()[:1]), ("rows",))
truth = landscapes(mesh=one)
meshes = {
    "all": None,
    "one axis": Mesh(np.array(jax.devices()), ("rows",)),
    "two axes": Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y")),
    "some": Mesh(np.array(jax.devices()[2:5]), ("rows",)),
    "made by jax": jax.make_mesh((4, 2), ("x", "y")),
}
for name, mesh in meshes.items():
    for memory in (None, 100_000):
        for kind, surface in landscapes(mesh=mesh, memory=memory).items():
            assert surface.shape == (37, 23), (name, kind)
            np.testing.assert_allclose(surface.loss, truth[kind].loss, rtol=1e-6)
assert devices.local_mesh(None).size == 8
with jax.default_device(jax.devices()[3]):
    assert devices.local_mesh(None) is None
    for kind, surface in landscapes().items():
        np.testing.assert_allclose(surface.loss, truth[kind].loss, rtol=1e-6)

# Each device computes its own 5 rows: 37 rows and 3 rows of padding on 8 devices.
data = make_data()
axis = [np.linspace(*AXES[name], dtype=np.float32) for name in ("w1", "w2")]
problem = Problem("dense", mean_cube, weight_plane(), *axis, data)
plan = make_plan(problem, devices.local_mesh(None), None, False)
assert plan.rows == 40, plan
rows = jax.sharding.NamedSharding(plan.mesh, jax.sharding.PartitionSpec("rows"))
placed = jax.device_put(np.resize(axis[0], 40), rows)
from jaxscape.grid import strategies
cut = strategies.dense(mean_cube, plan.mesh, plan.limits, problem.plane, placed, axis[1], data)[0]
assert {shard.data.shape for shard in cut.addressable_shards} == {(5, 23)}
assert len({shard.device for shard in cut.addressable_shards}) == 8

surface = landscapes(memory=30_000)["summed"]
np.testing.assert_allclose(surface.loss, truth["summed"].loss, rtol=1e-6)

with jax.enable_x64(True):
    data = jxs.Dataset(np.asarray(data.x, float), np.asarray(data.y, float))
    several = jxs.landscape(mean_cube, data, **AXES)
    alone = jxs.landscape(mean_cube, data, mesh=one, **AXES)
    assert several.loss.dtype == np.float64
    np.testing.assert_allclose(several.loss, alone.loss, rtol=1e-14)
print("equal")
"""


@pytest.mark.slow
def test_eight_devices_compute_the_same_rows_as_one():
    ended = run(SHARDED, **EIGHT)
    assert ended.stdout.strip() == "equal", ended.stderr[-3000:]


def test_other_objects_than_meshes_of_devices_are_refused():
    for mesh in (2, "gpu", AbstractMesh((2,), ("rows",), axis_types=(AxisType.Auto,))):
        with pytest.raises(TypeError, match=r"mesh: expected a jax.sharding.Mesh of devices"):
            devices.local_mesh(mesh)


def test_devices_that_do_not_exist_are_refused(monkeypatch):
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    monkeypatch.setattr(devices, "_all_devices", lambda _: [])
    with pytest.raises(ValueError, match="mesh: expected devices that exist, got"):
        jxs.landscape(jxs.absolute_error, make_data(), mesh=mesh, **AXES)


def test_one_device_needs_no_mesh():
    assert devices.local_mesh(None) is None
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("x", "y"))
    assert devices.local_mesh(mesh) == Mesh(np.array(jax.devices()[:1]), ("rows",))


@pytest.mark.parametrize(("configured", "expected"), [(None, "HIGHEST"), ("bfloat16", "DEFAULT")])
def test_products_have_full_precision_unless_the_caller_sets_one(configured, expected):
    product = jax.jit(devices.in_full_precision(lambda x, y: x @ y))
    with jax.default_matmul_precision(configured):
        lowered = product.lower(np.ones((2, 3), np.float32), np.ones(3, np.float32)).as_text()
    assert f"precision = [{expected}, {expected}]" in lowered


def test_derivatives_of_a_loss_have_full_precision():
    """GPUs round the factors of float32 products by default; processors never do."""
    params, x = {"w": np.ones((3, 2), np.float32)}, np.ones((5, 3), np.float32)
    direction = {"w": np.eye(3, 2, dtype=np.float32)}

    def loss(params, x):
        return jnp.mean(jnp.tanh(x @ params["w"]) ** 2)

    structure = jax.tree.structure(params)
    stacked, optimizer = {"w": jnp.ones((4, 3, 2))}, optax.sgd(0.1)
    count = jnp.zeros(4, jnp.int32)
    state = basins._State(
        stacked, basins._initial_optimizer_states(optimizer, stacked), count, count
    )
    of_limits = loss, limits._Structure(structure, ((3, 2),))
    of_newton = loss, jxs.Plane(params, params, direction), x, jnp.ones((4, 2))
    for function, given in (
        (gradient._gradient, (loss, Static(structure, (None,)), params, params, x)),
        (basins._advance, (loss, optimizer, state, x, 10, np.float32(0.1))),
        (limits._loss, (*of_limits, jnp.ones(6), x)),
        (limits._derivatives, (*of_limits, jnp.ones(6), x)),
        (limits._evaluate_stops, (*of_limits, jnp.ones((4, 6)), x)),
        (limits._newton, (*of_limits, jnp.ones(6), x)),
        (newton._evaluate, of_newton),
        (newton._newton, (*of_newton, jnp.ones(2), 1.0)),
    ):
        lowered = function.lower(*given).as_text()
        assert "dot_general" in lowered
        assert lowered.count("dot_general") == lowered.count("precision = [HIGHEST, HIGHEST]")


def test_a_processor_has_the_memory_of_the_machine_or_of_its_container():
    machine, device = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), jax.devices()[0]
    assert 0 < devices.device_memory(device) <= machine
    assert devices.memory_budget(device, None) == devices.device_memory(device) // 4
    assert devices.memory_budget(device, 1000) == 1000


def test_an_accelerator_has_its_own_memory():
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 12_345})
    assert devices.device_memory(device) == 12_345
    assert devices.cache_bytes("gpu") > devices.cache_bytes("cpu")


def test_a_stage_fails_in_all_processes_if_it_fails_in_one(monkeypatch):
    monkeypatch.setattr(devices, "gather_processes", lambda failed: np.array([False, True, True]))
    with (
        pytest.raises(RuntimeError, match="rows: process 1, 2 of 3 failed; its own error says why"),
        devices.synchronized("rows"),
    ):
        pass
    with pytest.raises(ZeroDivisionError), devices.synchronized("rows"):
        _ = 1 // 0


def test_processes_with_different_digests_are_refused(monkeypatch):
    mine = {"loss": "00ff", "data": "1234"}
    devices.check_agreement(mine)
    other = np.array([[[0x00, 0xFF], [0x12, 0x35]]], np.uint8)
    monkeypatch.setattr(
        devices, "gather_processes", lambda array: np.concatenate([array[None], other])
    )
    with pytest.raises(ValueError, match="^data: expected the same in all processes"):
        devices.check_agreement(mine)


PROCESS = """
jax.config.update("jax_cpu_collectives_implementation", "gloo")
address, count, index, folder = sys.argv[1:]
jax.distributed.initialize(address, int(count), int(index), heartbeat_timeout_seconds=10)
folder = None if folder == "-" else folder
"""
EQUAL = """
for kind, surface in landscapes(memory=60_000).items():
    alone = np.load(f"{folder}/{kind}.npy")
    assert surface.shape == (37, 23)
    np.testing.assert_allclose(surface.loss, alone, rtol=1e-6)
for kind, loss in (("exact", jxs.squared_error), ("tiled", mean_cube)):
    place = f"{folder}/{kind}.grid"
    surface = jxs.landscape(loss, make_data(), memory=60_000, destination=place, **AXES)
    assert isinstance(surface.loss, np.memmap)
    np.testing.assert_allclose(surface.loss, np.load(f"{folder}/{kind}.npy"), rtol=1e-6)
try:
    jxs.landscape(jxs.absolute_error, make_data(300 + jax.process_index()), **AXES)
except ValueError as error:
    assert "in all processes" in str(error), error
else:
    raise AssertionError("each process has other data")
print("equal")
"""
DYING = """
from jaxscape.grid import destination as store
write, count = store.Destination.write, 0

def dying(self, rows, losses):
    global count
    count += 1
    if count == 2 and jax.process_index() == 1:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, rows, losses)

store.Destination.write = dying
jxs.landscape(jxs.absolute_error, make_data(500), memory=20_000, destination=folder, **AXES)
print("not reached")
"""

PAGE = Path(__file__).parents[2] / "docs" / "grids.md"
FAILING = """
from jaxscape.grid import destination as store
write = store.Destination.write

def failing(self, rows, losses):
    if jax.process_index() == 1:
        raise OSError("the disk is full")
    write(self, rows, losses)

store.Destination.write = failing
jxs.landscape(jxs.absolute_error, make_data(500), memory=20_000, destination=folder, **AXES)
"""


REFUSED = """
place = f"{folder}/elsewhere" if jax.process_index() else "."
jxs.landscape(jxs.absolute_error, make_data(500), destination=f"{place}/grid", **AXES)
"""


def free_address():
    """Return an address of this machine with a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(program, count, folder):
    """Start a program in several processes of `jax.distributed`."""
    address = free_address()
    code = HEADER.format(tests=str(Path(__file__).parents[2])) + PROCESS + program
    return [
        subprocess.Popen(
            [sys.executable, "-u", "-c", code, address, str(count), str(index), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(index),
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_compute_the_same_rows_as_one(count, tmp_path):
    for kind, surface in landscapes().items():
        np.save(tmp_path / f"{kind}.npy", surface.loss)
    for process in start(EQUAL, count, tmp_path):
        printed, errors = process.communicate(timeout=180)
        assert printed.strip().endswith("equal"), errors[-3000:]
        assert process.returncode == 0
    for kind in ("exact", "tiled"):
        journals = list((tmp_path / f"{kind}.grid").glob("done.*.jsonl"))
        assert len(journals) == count


@pytest.mark.slow
def test_the_program_on_the_page_about_grids_runs_in_two_processes(tmp_path):
    program = PAGE.read_text().partition("```py\n")[2].partition("```")[0]
    (tmp_path / "surface.py").write_text(program)
    processes = [
        subprocess.Popen(
            [sys.executable, "surface.py", address, "2", str(index)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=child_environment(index),
        )
        for address in [free_address()]
        for index in range(2)
    ]
    printed = [process.communicate(timeout=180)[0] for process in processes]
    assert "Landscape(w1: 400 × w2: 300, dense, float32)" in printed[0]
    assert all(process.returncode == 0 for process in processes)
    assert np.load(tmp_path / "surface" / "loss.npy").shape == (400, 300)


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_with_its_number(tmp_path):
    """If only this process raised an error, the others would wait for it, and it for them."""
    begun = time.monotonic()
    processes = start(FAILING, 2, tmp_path / "grid")
    first, second = (process.communicate(timeout=120)[1] for process in processes)
    assert time.monotonic() - begun < 60
    assert all(process.returncode == 1 for process in processes)
    assert "RuntimeError: rows: process 1 of 2 failed; its own error says why" in first
    assert "OSError: the disk is full" in second


@pytest.mark.slow
def test_arguments_refused_by_one_process_end_the_others(tmp_path):
    """One machine lacks the folder; JAX would let the others wait for minutes."""
    begun = time.monotonic()
    processes = start(REFUSED, 2, tmp_path)
    first, second = (process.communicate(timeout=120)[1] for process in processes)
    assert time.monotonic() - begun < 60
    assert "RuntimeError: arguments: process 1 of 2 failed; its own error says why" in first
    assert "ValueError: destination: expected a folder whose parent exists" in second


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_same_call_continues(tmp_path):
    folder = tmp_path / "grid"
    begun = time.monotonic()
    first, second = start(DYING, 2, folder)
    _, errors = first.communicate(timeout=120)
    second.communicate(timeout=120)
    # The heartbeat's timeout is 10 s, and the start takes some more.
    assert time.monotonic() - begun < 60
    assert second.returncode == -9
    assert first.returncode != 0
    assert "another task died" in errors or "unhealthy" in errors or "closed by peer" in errors
    assert not (folder / "loss.npy").exists()
    done = sum(len((folder / f"done.{k}.jsonl").read_text().split("\n")) > 1 for k in (0, 1))
    assert done == 2
    whole = jxs.landscape(jxs.absolute_error, make_data(500), **AXES)
    surface = jxs.landscape(jxs.absolute_error, make_data(500), destination=folder, **AXES)
    np.testing.assert_allclose(surface.loss, whole.loss, rtol=1e-6)
