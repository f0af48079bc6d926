"""Several devices and several processes give what one gives."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

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
from tests._util.test_devices import losses
from tests.grid.helpers import AXES, make_data, mean_cube
"""


def losses(**options):
    """One of each strategy, on 37 rows, which neither 2 nor 4 nor 8 divide."""
    return {
        name: jxs.landscape(loss, make_data(), **(AXES | options))
        for name, loss in (
            ("exact", jxs.squared_error),
            ("streamed", jxs.absolute_error),
            ("tiled", mean_cube),
        )
    }


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", HEADER.format(tests=str(Path(__file__).parents[2])) + program],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


SHARDED = """
from jaxscape._util import devices
from jaxscape.grid import plan as planning
from jaxscape.planes.plane import weight_plane

assert len(jax.devices()) == 8
one = Mesh(np.array(jax.devices()[:1]), ("rows",))
truth = losses(mesh=one)
meshes = {
    "all": None,
    "one axis": Mesh(np.array(jax.devices()), ("rows",)),
    "two axes": Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y")),
    "some": Mesh(np.array(jax.devices()[2:5]), ("rows",)),
    "made by jax": jax.make_mesh((4, 2), ("x", "y")),
}
for name, mesh in meshes.items():
    for memory in (None, 100_000):
        for kind, surface in losses(mesh=mesh, memory=memory).items():
            assert surface.shape == (37, 23), (name, kind)
            np.testing.assert_allclose(surface.loss, truth[kind].loss, rtol=1e-6)
assert devices.local_mesh(None).size == 8
with jax.default_device(jax.devices()[3]):
    assert devices.local_mesh(None) is None
    for kind, surface in losses().items():
        np.testing.assert_allclose(surface.loss, truth[kind].loss, rtol=1e-6)

# Every device computes rows of its own: 37 rows on 8 devices are 5 each, 3 of them padding.
data, task = make_data(), None
axis = [np.linspace(*AXES[name], dtype=np.float32) for name in ("w1", "w2")]
problem = planning.Problem("dense", mean_cube, weight_plane(), *axis, data)
plan = planning.make_plan(problem, devices.local_mesh(None), None, False)
assert plan.rows == 40, plan
rows = jax.sharding.NamedSharding(plan.mesh, jax.sharding.PartitionSpec("rows"))
placed = jax.device_put(np.resize(axis[0], 40), rows)
from jaxscape.grid import strategies
cut = strategies.dense(mean_cube, plan.mesh, plan.limits, problem.plane, placed, axis[1], data)[0]
assert {shard.data.shape for shard in cut.addressable_shards} == {(5, 23)}
assert len({shard.device for shard in cut.addressable_shards}) == 8

surface = losses(destination=None, memory=30_000)["streamed"]
np.testing.assert_allclose(surface.loss, truth["streamed"].loss, rtol=1e-6)

with jax.enable_x64(True):
    data = jxs.Dataset(np.asarray(data.x, float), np.asarray(data.y, float))
    several = jxs.landscape(mean_cube, data, **AXES)
    alone = jxs.landscape(mean_cube, data, mesh=one, **AXES)
    assert several.loss.dtype == np.float64
    np.testing.assert_allclose(several.loss, alone.loss, rtol=1e-14)
print("equal")
"""


def test_eight_devices_share_the_rows():
    ended = run(SHARDED, **EIGHT)
    assert ended.stdout.strip() == "equal", ended.stderr[-3000:]


def test_what_is_no_mesh_of_devices_is_refused():
    for mesh in (2, "gpu", AbstractMesh((2,), ("rows",), axis_types=(AxisType.Auto,))):
        with pytest.raises(TypeError, match=r"mesh: expected a jax.sharding.Mesh of devices"):
            losses(mesh=mesh)


def test_devices_that_are_not_there_are_refused(monkeypatch):
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    monkeypatch.setattr(devices, "_all_devices", lambda _: [])
    with pytest.raises(ValueError, match="mesh: expected devices that exist, got"):
        losses(mesh=mesh)


def test_products_of_a_loss_are_in_float32_where_it_is_differentiated():
    """GPUs round float32 products unless they are told not to; processors never do."""
    params, x = {"w": jnp.ones((3, 2))}, jnp.ones((5, 3))
    direction = {"w": jnp.eye(3, 2)}

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
        (newton._at, of_newton),
        (newton._newton, (*of_newton, jnp.ones(2))),
    ):
        lowered = function.lower(*given).as_text()
        assert "dot_general" in lowered
        assert lowered.count("dot_general") == lowered.count("precision = [HIGHEST, HIGHEST]")


def test_a_processor_has_the_memory_of_the_machine_or_of_its_container():
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < devices.device_memory(jax.devices()[0]) <= machine


PROCESS = """
jax.config.update("jax_cpu_collectives_implementation", "gloo")
address, count, index, folder = sys.argv[1:]
jax.distributed.initialize(address, int(count), int(index), heartbeat_timeout_seconds=10)
folder = None if folder == "-" else folder
"""
EQUAL = """
for kind, surface in losses(memory=60_000).items():
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
    raise AssertionError("other data in each process")
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

DOCUMENT = Path(__file__).parents[2] / "docs" / "grids.md"
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(program, count, folder):
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


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_share_the_rows(count, tmp_path):
    for kind, surface in losses().items():
        np.save(tmp_path / f"{kind}.npy", surface.loss)
    for process in start(EQUAL, count, tmp_path):
        printed, errors = process.communicate(timeout=180)
        assert printed.strip().endswith("equal"), errors[-3000:]
        assert process.returncode == 0
    for kind in ("exact", "tiled"):
        journals = list((tmp_path / f"{kind}.grid").glob("done.*.jsonl"))
        assert len(journals) == count


def test_the_program_in_the_document_runs_in_two_processes(tmp_path):
    program = DOCUMENT.read_text().partition("```py\n")[2].partition("```")[0]
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


def test_a_process_that_fails_ends_the_others_with_its_number(tmp_path):
    """Where it only raised, the others would wait for it, and it for them."""
    begun = time.monotonic()
    processes = start(FAILING, 2, tmp_path / "grid")
    first, second = (process.communicate(timeout=120)[1] for process in processes)
    assert time.monotonic() - begun < 60
    assert all(process.returncode == 1 for process in processes)
    assert "RuntimeError: rows: process 1 of 2 failed; its own error says why" in first
    assert "OSError: the disk is full" in second


def test_what_one_process_refuses_the_others_do_not_wait_for(tmp_path):
    """A machine that does not see the folder: JAX lets the others wait for minutes."""
    begun = time.monotonic()
    processes = start(REFUSED, 2, tmp_path)
    first, second = (process.communicate(timeout=120)[1] for process in processes)
    assert time.monotonic() - begun < 60
    assert "RuntimeError: arguments: process 1 of 2 failed; its own error says why" in first
    assert "ValueError: destination: expected a folder whose parent exists" in second


def test_a_process_that_dies_ends_the_others_with_an_error_and_the_run_goes_on(tmp_path):
    folder = tmp_path / "grid"
    begun = time.monotonic()
    first, second = start(DYING, 2, folder)
    _, errors = first.communicate(timeout=120)
    second.communicate(timeout=120)
    # The time-out of its heartbeat is 10 s; starting up takes some more.
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
