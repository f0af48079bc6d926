"""Packages import only from packages below them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "jaxscape"
# From the top down.
ORDER = [
    "top level",
    "plot",
    "topology",
    "critical",
    "connectivity",
    "training",
    "curvature",
    "grid",
    "planes",
    "losses",
    "data",
    "results",
    "_util",
]
MODULES = sorted(ROOT.rglob("*.py"))


def package_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else "top level"


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            library, _, inner = name.partition(".")
            if library == "jaxscape":
                package = inner.split(".")[0]
                yield package if package in ORDER else "top level"


def test_the_order_names_every_package():
    assert {package_of(path) for path in MODULES} == set(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_from_below(package):
    allowed = ORDER[ORDER.index(package) :]
    for path in MODULES:
        if package_of(path) == package:
            assert set(imported_packages(path)) <= set(allowed), path


def test_at_most_eight_modules_are_at_the_top():
    assert len([path for path in ROOT.glob("*.py") if not path.stem.startswith("__")]) <= 8


def test_no_module_changes_the_configuration_of_jax():
    for path in MODULES:
        assert "config.update" not in path.read_text()
