"""The shape of a sampled surface: minima, valleys, and the lowest path between two points."""

from jaxscape.topology.persistence import Persistence, persistence
from jaxscape.topology.valleys import MinimaxPath, Valley, minimax_path, valley

__all__ = ["MinimaxPath", "Persistence", "Valley", "minimax_path", "persistence", "valley"]
