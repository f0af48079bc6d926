import gc
import signal

import jax
import pytest

# A shell has commands in the background ignore Ctrl-C; the tests of it need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _strict_ranks():
    """No shape is ever mended by broadcasting a missing axis."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped():
    """Each maps memory; of 65,530 maps a process may have, a compiler without one crashes."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def x64():
    """JAX with float64; without this fixture, tests run in float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compilations():
    """A list that grows by one whenever anything is compiled."""
    events = []

    def listen(event, _duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.clear_event_listeners()
