"""The bar of long work: in a terminal alone, before the first part is done too, gone at the end."""

import io
import threading

import pytest

from jaxscape import progress


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
