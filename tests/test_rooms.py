"""Imports go down the table of rooms only, and importing the library loads little."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jaxscape"
# From the top down: each imports only from below itself.
ROOMS = [
    "__main__",
    "plot",
    "pairs",
    "surfaces",
    "export",
    "movie",
    "browser",
    "explorer",
    "charts",
    "interpolations",
    "maps",
    "slopes",
    "spectra",
    "frames",
    "fitted",
    "marks",
    "spatial",
    "outline",
    "layout",
    "legend",
    "linked",
    "blocks",
    "camera",
    "view",
    "agreement",
    "scale",
    "archive",
    "panels",
    "article",
    "report",
    "sentences",
    "description",
    "facts",
    "valleys",
    "lattice",
    "forest",
    "critical",
    "stationary",
    "profile",
    "roots",
    "newton",
    "exclusion",
    "intervals",
    "arithmetic",
    "moves",
    "bounds",
    "kinks",
    "winding",
    "points",
    "precision",
    "derivatives",
    "edge",
    "spectrum",
    "eigenvalues",
    "lanczos",
    "products",
    "fits",
    "tuning",
    "steepest",
    "curves",
    "attraction",
    "limits",
    "noise",
    "outcome",
    "descent",
    "stacks",
    "training",
    "optimizers",
    "projection",
    "recorder",
    "rows",
    "slices",
    "paths",
    "refinement",
    "rectangles",
    "grid",
    "axes",
    "store",
    "journal",
    "bands",
    "stretches",
    "cells",
    "sums",
    "means",
    "affine",
    "windows",
    "shares",
    "checked",
    "quadratic",
    "plane",
    "principal",
    "nearest",
    "directions",
    "network",
    "statistics",
    "streams",
    "files",
    "data",
    "identity",
    "progress",
    "devices",
    "trajectory",
    "results",
    "sketch",
]


def imports(room):
    for node in ast.walk(ast.parse((PACKAGE / f"{room}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "jaxscape":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxscape."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("jaxscape."))


def test_the_table_names_every_room():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*ROOMS, "__init__"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_below(room):
    below = ROOMS[ROOMS.index(room) + 1 :]
    assert set(imports(room)) <= set(below)


def test_the_picture_in_the_documents_is_the_table():
    picture = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", picture, re.MULTILINE) == ROOMS
    for room in ROOMS:
        row = re.search(rf"^\| `{room}` \|.*\|(.*)\|$", picture, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row[1])) == set(imports(room)), room


def test_no_room_is_too_large():
    for room in ROOMS:
        assert len((PACKAGE / f"{room}.py").read_text().splitlines()) <= 330, room


def test_importing_loads_neither_optax_nor_plotly():
    """Each costs what importing the whole library may."""
    program = (
        "import sys, jaxscape; print([m for m in ('optax', 'plotly', 'tqdm') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


def test_nothing_touches_jax_configuration():
    for room in ROOMS:
        assert "config.update" not in (PACKAGE / f"{room}.py").read_text()
