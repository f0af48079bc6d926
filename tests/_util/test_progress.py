"""The bar of long work: in a terminal alone, before the first part is done too, gone at the end."""

import io
import threading

import numpy as np
import optax
import plotly.graph_objects as go
import pytest
from tqdm import tqdm

import jaxscape as jxs
from jaxscape._util import progress


class Screen(io.StringIO):
    """A terminal or none, which tells when a bar of runs was drawn on it."""

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
def test_its_clock_goes_on_while_the_first_of_all_runs_is_under_way(monkeypatch, is_terminal):
    screen = Screen(is_terminal)
    monkeypatch.setattr(progress, "_SECONDS", 0.01)
    # Here, as pytest sets its own when a test begins.
    monkeypatch.setattr("sys.stderr", screen)
    with progress.bar(3, "runs") as bar:
        seen = [screen.drawn.acquire(timeout=60 if is_terminal else 0.1) for _ in range(2)]
        bar.update(3)
    assert seen == [is_terminal] * 2
    assert ("| 0/3 [" in screen.getvalue()) == is_terminal
    assert screen.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def parabola(x, _):
    return 5 * x**2


def hills(w1, w2):
    return (w1**2 - 1) ** 2 + 0.3 * w1 + (w1 - 2 * w2) ** 2


SGD, DATA = optax.sgd(0.01), jxs.Dataset(np.linspace(-1, 2, 9), np.linspace(0, 1, 9) ** 2)
BOX, AXES = {"w1": (-2.0, 2.0), "w2": (-1.5, 1.7)}, {"w1": (-2, 2, 5), "w2": (-1, 1, 4)}
LONG_WORK = {
    "run": lambda _: jxs.descend(parabola, 1.0, np.ones(2), optimizer=SGD, epochs=3),
    "starts": lambda _: jxs.basins(jxs.squared_error, DATA, optimizer=SGD, steps=9, **AXES),
    "boxes": lambda _: jxs.critical_points(jxs.Function(hills), **BOX),
    "stretches": lambda _: jxs.critical_points(jxs.squared_error, DATA, **BOX),
    "picture": lambda folder: jxs.plot.write(go.Figure(), folder / "a.svg"),
}


@pytest.mark.parametrize("unit", LONG_WORK)
def test_all_that_may_take_long_has_one(unit, monkeypatch, tmp_path):
    units = []

    class Bar(tqdm):
        def __init__(self, *_, **given):
            units.append(given["unit"])
            super().__init__(disable=True)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    monkeypatch.setattr("jaxscape.plot.export.check_file", lambda file: None)
    monkeypatch.setattr(go.Figure, "to_image", lambda *_, **__: b"<svg/>")
    LONG_WORK[unit](tmp_path)
    assert f" {unit}" in units
