"""Functions with known critical points, and a search on a square by default."""

import numpy as np

import jaxscape as jxs
from jaxscape.critical.interval import Interval


def himmelblau(w1, w2):
    return (w1**2 + w2 - 11) ** 2 + (w1 + w2**2 - 7) ** 2


def linear_network(w1, w2):
    return (1 - w1 * w2) ** 2 + 0.1 * (w1**2 + w2**2)


# Kind, position, loss and eigenvalues, computed with 40 digits from the textbook formula.
HIMMELBLAU = [
    ("minimum", 3, 2, 0, 25.7157288, 82.2842712),
    ("minimum", 3.58442834033, -1.84812652696, 0, 28.6906772, 105.418908),
    ("minimum", -2.80511808695, 3.13131251825, 0, 64.8403728, 80.5500718),
    ("minimum", -3.77931025338, -3.28318599129, 0, 70.7143547, 133.785615),
    ("saddle", 3.38515418361, 0.0738518798377, 13.3119262704, -14.1351785, 97.5478781),
    ("saddle", 0.0866775045554, 2.88425470117, 67.7191500875, -31.7066224, 75.5076092),
    ("saddle", -3.07302575076, -0.081353044288, 104.015162918, -39.6514963, 72.4352481),
    ("saddle", -0.127961346731, -1.95371498024, 178.337239202, -50.6102393, 20.28405),
    ("maximum", -0.270844590667, -0.92303855648, 181.616521523, -45.6052293, -16.0660197),
]


def search(function, w1=(-2.0, 2.0), w2=(-2.0, 2.0)):
    """Search a function of two numbers for its critical points."""
    return jxs.critical_points(jxs.Function(function), w1=w1, w2=w2)


def check_known(found, known):
    """Check that the known critical points are found, certified, and proved to be all."""
    assert found.completeness == "proved"
    assert len(found.points) == len(known)
    for kind, a, b, loss, *eigenvalues in known:
        (point,) = (p for p in found.points if np.hypot(p.a - a, p.b - b) < 1e-9)
        assert point.kind == kind
        assert point.certified
        np.testing.assert_allclose(point.loss, loss, rtol=1e-11, atol=1e-20)
        np.testing.assert_allclose(point.eigenvalues, eigenvalues, rtol=1e-7)
        assert point.residual < 1e-9
        assert point.turns == (-1 if kind == "saddle" else 1)


def random_boxes(generator, width):
    """Draw 40 boxes in [-5, 5]², each of at most the given half width."""
    center = generator.uniform(-4, 4, (40, 2))
    half = generator.uniform(0, width, (40, 2)) * np.minimum(1, 4.4 - abs(center))
    return Interval(center - half, center + half)
