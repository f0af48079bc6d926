"""The examples in docstrings and documents run and print what they show."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxscape as jxs
from tests.names import public_names

ROOT = Path(__file__).parents[1]
MODULES = [module.name for module in pkgutil.walk_packages(jxs.__path__, "jaxscape.")]
NAMES = {"jxs": jxs, "jax": jax, "jnp": jnp, "np": np, "optax": optax, "Path": Path}
NUMBER = re.compile(r"-?\b\d+(?:\.\d+)?\b")
EXAMPLES = [
    example
    for module in MODULES
    if module != "jaxscape.__main__"
    for example in doctest.DocTestFinder().find(importlib.import_module(module), extraglobs=NAMES)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_docstring_example_prints_what_it_shows(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    runner.run(example, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


def test_every_public_name_has_an_example_except_these():
    with_example = {example.name.rpartition(".")[2] for example in EXAMPLES}
    # The losses are instances, whose class has an example.
    without = {"absolute_error", "log_cosh", "squared_error", "Trajectory", "Projection"}
    without |= {"InterruptedWarning", "NonFiniteWarning"}
    # Results, which the examples of the functions that return them show.
    without |= {"MinimaxPath", "Basins", "BatchLandscapes", "Limit", "Stability"}
    without |= {"CriticalPoint", "Description", "Eigenpairs", "SpectralDensity", "TraceEstimate"}
    without |= {"Archive", "Experiment", "Predictions"}
    # Constants.
    without |= {"AXIS", "BATCH_SIZE", "EPOCHS", "HTML_CONFIG", "SCHEMA", "START"}
    names = {name.rpartition(".")[2] for name in public_names()}
    assert names - without <= with_example


# Other pages run when the site is built.
DOCUMENTS = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "```python\n" in path.read_text()
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_documents_examples_print_what_it_shows(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
        exec(compile(block, str(path), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    # The output is shown indented, right below the code block that prints it.
    shown = re.findall(r"```python\n.*?```\n\n((?:    [^\n]*\n)+)", path.read_text(), re.DOTALL)
    lines = "".join(shown).splitlines()
    assert len(lines) == len(printed)
    for actual, expected in zip(printed, lines, strict=True):
        assert NUMBER.sub("#", expected) == "    " + NUMBER.sub("#", actual)
        # The sixth digit of a float32 depends on the processor. So does which of the two cells
        # (w1, w2) and (-w1, -w2), equal but for rounding, is the lowest.
        np.testing.assert_allclose(
            [abs(float(n)) for n in NUMBER.findall(expected)],
            [abs(float(n)) for n in NUMBER.findall(actual)],
            rtol=1e-5,
        )
