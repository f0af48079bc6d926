"""Frames of an animation, drawn by kaleido's browser."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from jaxscape import plot
from jaxscape.plot import browser as browser_module
from tests.pages import decode_png, has_color
from tests.plot.helpers import PATH, make_landscape, make_path


def test_the_environment_sets_the_only_place_that_is_searched(monkeypatch, tmp_path):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    assert browser_module.searched_place() == ""
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    assert browser_module.searched_place() == f" at {tmp_path / 'none'}, the value of BROWSER_PATH"
    assert not browser_module.is_installed()
    (tmp_path / "none").touch()
    assert browser_module.is_installed()


class FailingTab:
    """A tab whose browser answers with one result or error."""

    def __init__(self, answer):
        self.answer = answer

    async def send_command(self, command, parameters):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"error": "no such command"}, "the browser rejected Runtime.evaluate: no such command"),
        (
            {"result": {"exceptionDetails": {"exception": {"description": "Error: x\n at y"}}}},
            "figure: the browser could not draw it at this size: Error: x$",
        ),
    ],
)
def test_errors_of_the_browser_are_in_the_message(answer, message):
    with pytest.raises(RuntimeError, match=message):
        asyncio.run(browser_module._evaluate(FailingTab(answer), "1 + 1"))


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_a_gif_shows_the_path_grow_frame_by_frame(tmp_path):
    path = make_path(np.linspace(-1.5, 0.5, 9), np.linspace(3.2, 0.8, 9))
    figure = plot.animation(make_landscape(31, 21), path, kind="contour")
    with pytest.raises(RuntimeError, match="could not draw it at this size: Error: .* scaling"):
        plot.write(figure, tmp_path / "a.gif", width=300, height=200)
    plot.write(figure, tmp_path / "a.gif", width=500, height=400)
    with Image.open(tmp_path / "a.gif") as file:
        assert (file.size, file.n_frames) == ((500, 400), 9)
        red = []
        for k in range(9):
            file.seek(k)
            image = np.asarray(file.convert("RGBA")).astype(int)[100:250]
            red.append(int(has_color(image, "#ff4b1f").sum()))
    assert red[1] > 20
    assert sorted(set(red[1:])) == red[1:]


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_an_image_shows_the_path(tmp_path):
    plot.write(plot.animation(make_landscape(31, 21), PATH), tmp_path / "a.png", width=600)
    image = decode_png((tmp_path / "a.png").read_bytes())
    assert image.shape == (900, 600, 4)
    assert has_color(image, "#ff4b1f").sum() > 200
