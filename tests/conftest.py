import jax
import pytest


@pytest.fixture(autouse=True)
def _strict_ranks():
    """No shape is ever mended by broadcasting a missing axis."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def x64():
    """JAX with float64; without this fixture, tests run in float32."""
    with jax.enable_x64(True):
        yield
