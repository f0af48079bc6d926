"""Progress bars appear in terminals only, run while the first unit takes long, and are cleared."""

import io
import subprocess
import sys
import threading

import numpy as np
import optax
import plotly.graph_objects as go
import pytest
from tqdm import tqdm

import jaxscape as jxs
from jaxscape._util import progress


class Screen(io.StringIO):
    """A stream that may be a terminal, and that counts how often a bar of runs is drawn on it."""

    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal, self.drawn = is_terminal, threading.Semaphore(0)

    def isatty(self):
        return self.is_terminal

    def write(self, text):
        if "runs" in text:
            self.drawn.release()
        return super().write(text)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_clock_runs_before_the_first_unit_is_done(monkeypatch, is_terminal):
    screen = Screen(is_terminal)
    monkeypatch.setattr(progress, "_SECONDS", 0.01)
    # pytest replaces stderr when a test starts, so a fixture would be too early.
    monkeypatch.setattr("sys.stderr", screen)
    with progress.bar(3, "runs") as bar:
        drawn = [screen.drawn.acquire(timeout=60 if is_terminal else 0.1) for _ in range(2)]
        bar.update(3)
    assert drawn == [is_terminal] * 2
    assert ("| 0/3 [" in screen.getvalue()) == is_terminal
    assert screen.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_a_notebook_without_widgets_gets_a_bar_and_no_error():
    # A process of its own, because tqdm looks once for the libraries of a notebook.
    script = f"""
import runpy, sys
from types import SimpleNamespace
sys.modules |= dict.fromkeys(("ipykernel", "ipykernel.zmqshell"), SimpleNamespace())
sys.modules |= {{"IPython": SimpleNamespace(get_ipython=lambda: None), "ipywidgets": None}}
with runpy.run_path({progress.__file__!r})["bar"](7, "rows") as shown:
    shown.refresh()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "0/7" in done.stdout
    assert done.stderr == ""


def parabola(x, _):
    return 5 * x**2


def hills(w1, w2):
    return (w1**2 - 1) ** 2 + 0.3 * w1 + (w1 - 2 * w2) ** 2


SGD, DATA = optax.sgd(0.01), jxs.Dataset(np.linspace(-1, 2, 9), np.linspace(0, 1, 9) ** 2)
BOX, AXES = {"w1": (-2.0, 2.0), "w2": (-1.5, 1.7)}, {"w1": (-2, 2, 5), "w2": (-1, 1, 4)}
LONG_COMPUTATIONS = {
    "run": lambda _: jxs.descend(parabola, 1.0, np.ones(2), optimizer=SGD, epochs=3),
    "starts": lambda _: jxs.basins(jxs.squared_error, DATA, optimizer=SGD, steps=9, **AXES),
    "boxes": lambda _: jxs.critical_points(jxs.Function(hills), **BOX),
    "intervals": lambda _: jxs.critical_points(jxs.squared_error, DATA, **BOX),
    "picture": lambda folder: jxs.plot.write(go.Figure(), folder / "a.svg"),
}


@pytest.mark.parametrize("unit", LONG_COMPUTATIONS)
def test_every_long_computation_has_a_bar(unit, monkeypatch, tmp_path):
    units = []

    class Bar(tqdm):
        def __init__(self, *_, **given):
            units.append(given["unit"])
            super().__init__(disable=True)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    monkeypatch.setattr("jaxscape.plot.export.check_file", lambda file: None)
    monkeypatch.setattr(go.Figure, "to_image", lambda *_, **__: b"<svg/>")
    LONG_COMPUTATIONS[unit](tmp_path)
    assert f" {unit}" in units
