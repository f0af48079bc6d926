"""The public names agree in every list, are defined in one place, and load when they are used."""

import ast
import importlib
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxscape as jxs
from tests.names import public_names

INIT = Path(jxs.__file__)


def type_checking_imports():
    """Map each name that type checkers import to the module it comes from."""
    [block] = [node for node in ast.parse(INIT.read_text()).body if isinstance(node, ast.If)]
    return {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_names_for_type_checkers_load_from_the_same_modules():
    lazy = {name: f"jaxscape.{module}" for name, module in jxs._MODULES.items()}
    assert type_checking_imports() == lazy | dict.fromkeys(jxs._PACKAGES, "jaxscape")


def test_all_lists_the_lazy_names_in_order():
    assert jxs.__all__ == sorted({*jxs._PACKAGES, *jxs._MODULES})
    assert {*jxs.__all__} <= {*dir(jxs)}


@pytest.mark.parametrize("name", jxs.__all__)
def test_a_name_loads_its_object_from_the_module_that_defines_it(name):
    value = getattr(jxs, name)
    if name in jxs._PACKAGES:
        assert value is importlib.import_module(f"jaxscape.{name}")
    else:
        module = importlib.import_module(f"jaxscape.{jxs._MODULES[name]}")
        assert value is getattr(module, name)
        if isinstance(value, type | types.FunctionType):
            assert value.__module__ == module.__name__


def test_an_unknown_name_raises_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'landscpae'"):
        _ = jxs.landscpae


def test_each_object_has_one_public_name():
    places = {}
    for name, value in public_names().items():
        if not isinstance(value, int | str | tuple | dict):
            places.setdefault(id(value), []).append(name)
    assert [names for names in places.values() if len(names) > 1] == []


def test_packages_list_their_names_in_order_without_modules():
    for package in jxs._PACKAGES:
        module = getattr(jxs, package)
        assert sorted(module.__all__) == sorted(set(module.__all__))
        for name in module.__all__:
            assert not isinstance(getattr(module, name), types.ModuleType), name


def test_the_typing_examples_call_every_public_function():
    code = (Path(__file__).parent / "typing" / "user_code.py").read_text()
    functions = [name for name, value in public_names().items() if inspect.isfunction(value)]
    assert [name for name in functions if f"jxs.{name}(" not in code] == []


def test_importing_the_library_loads_no_dependency_but_jax():
    program = (
        "import sys, jaxscape; print([m for m in ('optax', 'plotly', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_one_of_the_distribution():
    project = (INIT.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{jxs.__version__}"' in project
