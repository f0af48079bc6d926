"""The figure of a spectral density with single eigenvalues."""

import numpy as np
import pytest

from jaxscape.curvature.spectrum import Eigenpairs, SpectralDensity
from jaxscape.plot.spectrum import spectrum

WIDTH, SIZE = 0.3, 90


def kernel(x, eigenvalue):
    return np.exp(-(((x - eigenvalue) / WIDTH) ** 2) / 2) / WIDTH / np.sqrt(2 * np.pi)


def make_density(probes=10, steps=30, **changes):
    """Return a bulk around 0 and single eigenvalues at 6 and 9; the error exceeds some values."""
    x = np.linspace(-3, 11, 150)
    density = 88 / SIZE * kernel(x, 0) + (kernel(x, 6) + kernel(x, 9)) / SIZE
    # Far from all eigenvalues, the density is 0 after rounding.
    density[density < 1e-12] = 0
    error = 0.1 * density + 1e-3 * (x > 5) * (density > 0)
    quadrature = np.zeros((probes, steps))
    values = SpectralDensity(
        x, density, error, WIDTH, quadrature, quadrature, SIZE, "Hessian of quadratic"
    )
    return values._replace(**changes)


PAIRS = Eigenpairs(
    np.array([9.0, 6.0, 0.9, np.nan]),
    None,
    np.array([1e-6, 2e-6, 0.1, np.nan]),
    np.array([True, True, False, False]),
    "Hessian of quadratic",
)


def test_the_line_is_the_density_with_gaps_where_it_is_0():
    density = make_density()
    [line] = [trace for trace in spectrum(density).data if trace.name == "density"]
    shown = density.density > 0
    assert 0 < shown.sum() < len(shown)
    np.testing.assert_array_equal(line.x, density.eigenvalues)
    np.testing.assert_array_equal(line.y[shown], density.density[shown])
    np.testing.assert_array_equal(np.isnan(line.y), ~shown)


def test_the_error_is_filled_and_leaves_the_axis_where_it_reaches_0():
    density = make_density()
    figure = spectrum(density)
    area, _ = figure.data
    floor = 10 ** figure.layout.yaxis.range[0]
    count = len(density.density)
    high = density.density + density.error
    np.testing.assert_allclose(area.y[:count][high > floor], high[high > floor])
    low = (density.density - density.error)[::-1]
    np.testing.assert_allclose(area.y[count:][low > floor], low[low > floor])
    assert (area.y > 0).all()
    assert (low <= 0).any()
    assert (area.y[count:][low <= 0] < floor).all()


def test_a_density_without_error_has_no_area():
    [line] = spectrum(make_density(error=np.zeros(150))).data
    assert line.name == "density"


def test_eigenvalues_are_marked_at_the_height_of_a_single_one():
    _, _, closed, unconverged = spectrum(make_density(), PAIRS).data
    np.testing.assert_array_equal(closed.x, [9, 6])
    np.testing.assert_array_equal(closed.customdata, [1e-6, 2e-6])
    np.testing.assert_array_equal(unconverged.x, [0.9])
    assert [closed.name, unconverged.name] == ["2 eigenvalues", "1 not converged"]
    assert (closed.marker.symbol, unconverged.marker.symbol) == ("diamond", "diamond-open")
    np.testing.assert_allclose(closed.y, kernel(6, 6) / SIZE)


def test_the_axis_is_logarithmic_and_the_notes_name_the_method():
    layout = spectrum(make_density(), PAIRS).layout
    assert layout.yaxis.type == "log"
    assert layout.title.text == "Spectrum of the Hessian of quadratic"
    assert layout.title.subtitle.text == (
        "90 eigenvalues, from 10 random vectors with 30 Lanczos steps each<br>"
        "Gaussian kernel with standard deviation 0.3"
    )
    notes = spectrum(make_density(probes=1, steps=SIZE)).layout.meta["notes"]
    assert notes[0] == "90 eigenvalues, all computed"
    notes = spectrum(make_density(probes=1)).layout.meta["notes"]
    assert notes[0] == "90 eigenvalues, from 1 random vector with 30 Lanczos steps each"


def test_bad_arguments_raise():
    with pytest.raises(TypeError, match="density: expected a SpectralDensity, got int"):
        spectrum(3)
    with pytest.raises(TypeError, match="eigenpairs: expected Eigenpairs, got int"):
        spectrum(make_density(), 3)
    with pytest.raises(ValueError, match="density: expected a finite density"):
        spectrum(make_density(density=np.full(150, np.nan)))
