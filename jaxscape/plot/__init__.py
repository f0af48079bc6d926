"""Draw results as plotly figures.

Each function takes results and returns a `plotly.graph_objects.Figure`. It computes no loss and
shows nothing: call `show()` or `write_html()` on the figure, or pass it to `write`.
"""

from jaxscape.plot.animation import animation
from jaxscape.plot.basins import basins, trainability
from jaxscape.plot.compare import compare, side_by_side
from jaxscape.plot.derivatives import curvature, slopes
from jaxscape.plot.descents import fan, profile, stability, steps
from jaxscape.plot.explorer.page import explore
from jaxscape.plot.export import write
from jaxscape.plot.fit import fit
from jaxscape.plot.lines import lines
from jaxscape.plot.parts.layout import HTML_CONFIG
from jaxscape.plot.spectrum import spectrum
from jaxscape.plot.surface import contour, surface

__all__ = [
    "HTML_CONFIG",
    "animation",
    "basins",
    "compare",
    "contour",
    "curvature",
    "explore",
    "fan",
    "fit",
    "lines",
    "profile",
    "side_by_side",
    "slopes",
    "spectrum",
    "stability",
    "steps",
    "surface",
    "trainability",
    "write",
]
