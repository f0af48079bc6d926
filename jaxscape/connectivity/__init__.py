"""The loss along lines and curves between solutions."""

from jaxscape.connectivity.bezier import Curve, bezier
from jaxscape.connectivity.lines import Lines, interpolate, lines, random_directions

__all__ = ["Curve", "Lines", "bezier", "interpolate", "lines", "random_directions"]
