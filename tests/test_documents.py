"""Every example that a reader can see runs, and prints what it is said to print."""

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
def test_docstring_example(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    runner.run(example, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


def test_every_public_function_has_an_example_or_is_said_to_need_none():
    shown = {example.name.rpartition(".")[2] for example in EXAMPLES}
    # The three losses are instances: their class shows how they are called.
    without = {"absolute_error", "log_cosh", "squared_error", "Trajectory", "Projection"}
    without |= {"InterruptedWarning", "NonFiniteWarning"}
    # Results that the functions of about the same name show.
    without |= {"MinimaxPath", "Basins", "BatchLandscapes", "Limit", "Stability"}
    without |= {"CriticalPoint", "Description", "Eigenpairs", "SpectralDensity", "TraceEstimate"}
    without |= {"Archive", "Experiment", "Predictions"}
    # Constants.
    without |= {"AXIS", "BATCH_SIZE", "EPOCHS", "HTML_CONFIG", "SCHEMA", "START"}
    names = {name.rpartition(".")[2] for name in public_names()}
    assert names - without <= shown


# The cells of the pages run when they are built, and show what they print.
DOCUMENTS = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "```python\n" in path.read_text()
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_examples(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
        exec(compile(block, str(path), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    # What is printed is shown indented, right below the block that prints it.
    shown = re.findall(r"```python\n.*?```\n\n((?:    [^\n]*\n)+)", path.read_text(), re.DOTALL)
    lines = "".join(shown).splitlines()
    assert len(lines) == len(printed)
    for ours, theirs in zip(printed, lines, strict=True):
        assert NUMBER.sub("#", theirs) == "    " + NUMBER.sub("#", ours)
        # The sixth digit of a float32 is the processor's, and so is which of the two equal cells
        # (w1, w2) and (-w1, -w2) is a rounding lower.
        np.testing.assert_allclose(
            [abs(float(n)) for n in NUMBER.findall(theirs)],
            [abs(float(n)) for n in NUMBER.findall(ours)],
            rtol=1e-5,
        )


def test_version_is_the_packages():
    assert f'version = "{jxs.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_public_names_exist():
    for name in jxs.__all__:
        assert getattr(jxs, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'landscpae'"):
        _ = jxs.landscpae
