"""The noisy sine and the targets of a teacher network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscape as jxs


def test_the_noisy_sine_has_the_given_range_and_noise():
    data = jxs.data.noisy_sine(jax.random.key(1), n=20_000, noise=0.3)
    assert abs(data.x).max() <= np.float32(np.pi)
    assert jnp.std(data.y - jnp.sin(data.x)) == pytest.approx(0.3, rel=0.03)
    clean = jxs.data.noisy_sine(jax.random.key(1), n=20, noise=0)
    np.testing.assert_array_equal(clean.y, jnp.sin(clean.x))


def test_the_teachers_weights_are_a_minimum_of_the_loss():
    teacher = jxs.Weights(-0.6, 2.5)
    data = jxs.data.teacher_student(jax.random.key(1), 500, teacher)
    assert jxs.squared_error(teacher, data) == 0
    gradient = jax.grad(jxs.squared_error)(jxs.Weights(-0.6, 2.5), data)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    noisy = jxs.data.teacher_student(jax.random.key(1), 20_000, teacher, noise=0.5)
    assert jxs.squared_error(teacher, noisy) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("make", [jxs.data.noisy_sine, jxs.data.teacher_student])
def test_bad_arguments_are_refused(make):
    key = jax.random.key(0)
    with pytest.raises(TypeError, match=r"key: expected .* jax.random.key\(0\), got 3"):
        make(3)
    with pytest.raises(ValueError, match="n: expected 1 or more, got 0"):
        make(key, 0)
    with pytest.raises(TypeError, match="n: expected a whole number, got 2.5"):
        make(key, 2.5)
    for noise in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="noise: expected a finite standard deviation"):
            make(key, 5, noise=noise)
