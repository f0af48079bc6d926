"""The figures in a real browser, offline: no error, the path's pixels, the right hover."""

import numpy as np
import pytest
from PIL import Image

import jaxscape as jxs
from jaxscape import plot
from jaxscape.__main__ import main
from jaxscape.plot import scripts
from tests.pages import in_space, pixels

pytestmark = pytest.mark.usefixtures("browser")


def figure_file(figure, folder):
    path = folder / "figure.html"
    script = scripts.page_script(figure)
    figure.write_html(path, config=plot.HTML_CONFIG, div_id="figure", post_script=script)
    return path


def make_landscape():
    a, b = np.linspace(-2, 1, 31), np.linspace(0, 5, 21)
    loss = a[:, None] ** 2 + 3 * b + a[:, None] * b
    axes = jxs.Axis(a, "w1"), jxs.Axis(b, "w2")
    return jxs.Landscape(loss, *axes, loss_name="loss", method="dense")


def make_path():
    w1, w2 = np.linspace(-1.5, 0.5, 9), np.linspace(4, 1, 9)
    return jxs.Trajectory(
        params=jxs.Weights(w1, w2),
        step=np.arange(9),
        training_loss=w1**2 + 3 * w2 + w1 * w2,
        evaluation_loss=None,
        diverged_step=np.int32(-1),
        steps_per_epoch=1,
    )


SCENE = {"x": 0, "y": 100, "width": 850, "height": 500}


@pytest.mark.slow
@pytest.mark.parametrize("published", [False, True])
def test_the_command_lines_page_shows_surface_and_path(open_page, tmp_path, published):
    output = tmp_path / "surface.html"
    main(["--output", str(output), *(["--as-published"] if published else [])])
    page = open_page(output)
    assert pixels(page, "#ff4b1f", SCENE) > 300
    assert page.locator(".legendtext", has_text="descent: start (-1, -1)").count() == 1
    assert page.get_by_title("Share").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("draw", [plot.surface, plot.contour])
def test_without_the_path_there_are_no_such_pixels(open_page, tmp_path, draw):
    """The twin: the pixels counted are the path's."""
    with_path = open_page(figure_file(draw(make_landscape(), make_path()), tmp_path))
    assert pixels(with_path, "#ff4b1f", SCENE) > 300
    without = open_page(figure_file(draw(make_landscape()), tmp_path))
    assert pixels(without, "#ff4b1f", SCENE) == 0


HOVERED = """
() => {
  const figure = document.getElementById("figure");
  window.hovered = [];
  figure.on("plotly_hover", event => {
    const point = event.points[0];
    window.hovered.push([point.data.type, point.x, point.y, point.z ?? null]);
  });
}
"""


@pytest.mark.slow
def test_hover_on_the_contour_tells_the_cell_under_the_mouse(open_page, tmp_path):
    page = open_page(figure_file(plot.contour(make_landscape()), tmp_path))
    page.evaluate(HOVERED)
    for i, j in [(3, 17), (25, 4), (15, 10)]:
        a, b = -2 + 0.1 * i, 0.25 * j
        x, y = page.evaluate(
            """([a, b]) => {
              const figure = document.getElementById("figure");
              const {xaxis, yaxis} = figure._fullLayout;
              const box = figure.getBoundingClientRect();
              return [box.x + xaxis._offset + xaxis.l2p(a), box.y + yaxis._offset + yaxis.l2p(b)];
            }""",
            [a, b],
        )
        page.mouse.move(x, y)
        page.wait_for_timeout(300)
        kind, hovered_a, hovered_b, loss = page.evaluate("window.hovered.at(-1)")
        assert (kind, hovered_a, hovered_b) == ("heatmap", pytest.approx(a), pytest.approx(b))
        assert loss == pytest.approx(a**2 + 3 * b + a * b)
        text = page.locator(".hoverlayer .hovertext").first.text_content()
        assert f"w1 {a:.5g}w2 {b:.5g}loss {a**2 + 3 * b + a * b:.6g}" in text


@pytest.mark.slow
def test_hover_on_the_surface_and_its_path(open_page, tmp_path):
    figure, path = plot.surface(make_landscape(), make_path()), make_path()
    page = open_page(figure_file(figure, tmp_path))
    page.evaluate(HOVERED)
    on_surface = []
    for x, y in [(400, 300), (420, 400), (480, 340), (520, 420), (560, 300), (350, 380)]:
        page.mouse.move(x, y, steps=2)
        page.wait_for_timeout(200)
        hovered = page.evaluate("window.hovered")
        on_surface = [point[1:] for point in hovered if point[0] == "surface"]
        if len(on_surface) >= 3:
            break
    assert on_surface
    for a, b, loss in on_surface:
        assert loss == pytest.approx(a**2 + 3 * b + a * b, abs=1e-4)
    [points] = [trace for trace in figure.data if trace.legendgroup and trace.hovertemplate]
    told = 0
    # All but the ends, which have marks of their own; the surface may hide some.
    for k in range(1, 8):
        page.mouse.move(*in_space(page, "#figure", (points.x[k], points.y[k], points.z[k])))
        page.wait_for_timeout(250)
        kind, *where, height = page.evaluate("window.hovered.at(-1)")
        if kind != "scatter3d" or where != pytest.approx([points.x[k], points.y[k]]):
            continue
        told += 1
        # The height is lifted, so that the path is seen: its own loss is told.
        loss = path.training_loss[k]
        assert height > loss + 1e-3
        text = page.locator(".hovertext").first.text_content()
        assert f"descentw1 {where[0]:.5g}w2 {where[1]:.5g}loss {loss:.6g}epoch {k}" in text
    assert told >= 4


PRESS = """async ([share, late]) => {
  const figure = document.getElementById("jaxscape");
  const rail = document.querySelector(".slider-rail-touch-rect").getBoundingClientRect();
  const [x, y] = [rail.x + share * rail.width, rail.y + rail.height / 2];
  const place = { clientX: x, clientY: y, bubbles: true, cancelable: true, view: window };
  const pressed = document.elementFromPoint(x, y);
  const frame = new Promise((came) => figure.once("plotly_animatingframe", came));
  pressed.dispatchEvent(new MouseEvent("mousedown", place));
  if (late) await frame;
  pressed.dispatchEvent(new MouseEvent("mouseup", place));
}"""


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["at once", "between a frame and its drawing"])
def test_an_animation_plays_pauses_and_follows_its_slider(open_page, tmp_path, late):
    plot.write(
        plot.animation(make_landscape(), make_path(), kind="contour"), tmp_path / "figure.html"
    )
    page = open_page(tmp_path / "figure.html")
    # plotly.js rejects the promise of what was playing when it is paused, with no reason given.
    page.evaluate(
        "addEventListener('unhandledrejection', e => e.reason === undefined && e.preventDefault())"
    )

    def shown():
        active = "document.getElementById('jaxscape')._fullLayout.sliders[0].active"
        return page.evaluate(active), pixels(page, "#ff4b1f", SCENE)

    assert shown()[0] == 8
    whole = shown()[1]
    page.evaluate(PRESS, [0.26, late])
    page.wait_for_timeout(800)
    early, part = shown()
    assert early == 2
    assert 0 < part < 0.7 * whole
    page.get_by_text("Play", exact=True).click()
    # The ground is there in every frame: little of it is white.
    ground = {"x": 150, "y": 150, "width": 400, "height": 250}
    assert max(pixels(page, "#ffffff", ground) for _ in range(10)) < 20_000
    page.wait_for_function(
        "document.getElementById('jaxscape')._fullLayout.sliders[0].active > 3", timeout=20_000
    )
    page.get_by_text("Pause", exact=True).click()
    page.wait_for_timeout(800)
    paused = shown()
    assert paused[0] > 3
    page.wait_for_timeout(800)
    assert shown() == paused


@pytest.mark.slow
def test_a_gif_shows_the_path_grow_frame_by_frame(tmp_path):
    figure = plot.animation(make_landscape(), make_path(), kind="contour")
    with pytest.raises(RuntimeError, match="could not draw it at this size: Error: .* scaling"):
        plot.write(figure, tmp_path / "a.gif", width=300, height=200)
    plot.write(figure, tmp_path / "a.gif", width=500, height=400)
    with Image.open(tmp_path / "a.gif") as file:
        assert (file.size, file.n_frames) == ((500, 400), 9)
        red = []
        for k in range(9):
            file.seek(k)
            image = np.asarray(file.convert("RGB")).astype(int)[100:250]
            red.append(int((abs(image - [255, 75, 31]).sum(axis=2) < 60).sum()))
    assert red[1] > 20
    assert sorted(set(red[1:])) == red[1:]


@pytest.mark.slow
def test_an_image_has_the_paths_color(tmp_path):
    plot.write(plot.animation(make_landscape(), make_path()), tmp_path / "a.png", width=600)
    with Image.open(tmp_path / "a.png") as file:
        image = np.asarray(file.convert("RGB")).astype(int)
    assert image.shape == (900, 600, 3)
    assert (abs(image - [255, 75, 31]).sum(axis=2) < 60).sum() > 200


def hovered_on_surface(page, places):
    """The first points (w1, w2, height) of a surface that the mouse finds at some places."""
    found = []
    for x, y in places:
        page.mouse.move(x, y, steps=2)
        page.wait_for_timeout(250)
        last = page.evaluate("window.hovered.at(-1)")
        if last and last[0] == "surface":
            found.append((last[1:], page.locator(".hovertext").first.text_content()))
    return found


MARK = """
() => {
  const mark = document.querySelector(".linked-marker");
  const box = mark.getBoundingClientRect();
  return [mark.style.display, box.x + box.width / 2, box.y + box.height / 2, mark.textContent];
}
"""
ON_CONTOUR = """
([a, b]) => {
  const figure = document.getElementById("figure");
  const {xaxis, yaxis} = figure._fullLayout;
  const box = figure.getBoundingClientRect();
  return [box.x + xaxis._offset + xaxis.l2p(a), box.y + yaxis._offset + yaxis.l2p(b)];
}
"""


@pytest.mark.slow
def test_a_surface_and_its_contour_are_linked(open_page, tmp_path):
    """A mark goes where the mouse is in the other; the legend switches a path in both."""
    figure = plot.side_by_side(make_landscape(), make_path())
    page = open_page(figure_file(figure, tmp_path))
    page.evaluate(HOVERED)
    a, b = -1.1, 1.75
    page.mouse.move(*page.evaluate(ON_CONTOUR, [a, b]))
    page.wait_for_timeout(300)
    shown, x, y, text = page.evaluate(MARK)
    assert (shown, text) == ("block", f"w1 {a}\nw2 {b}\nloss {a**2 + 3 * b + a * b:.5g}")
    # There and back: the surface under the mark is at the cell that was under the mouse.
    [((back_a, back_b, height), _)] = hovered_on_surface(page, [(x, y)])
    assert (back_a, back_b) == (pytest.approx(a, abs=0.15), pytest.approx(b, abs=0.4))
    assert height == pytest.approx(back_a**2 + 3 * back_b + back_a * back_b, abs=1e-4)
    shown, x, y, _ = page.evaluate(MARK)
    assert shown == "block"
    assert [x, y] == pytest.approx(page.evaluate(ON_CONTOUR, [back_a, back_b]), abs=1)
    assert pixels(page, "#ff4b1f", SCENE) > 300
    page.locator(".legendtoggle").first.click()
    page.mouse.move(5, 5)
    page.wait_for_timeout(1500)
    assert pixels(page, "#ff4b1f", SCENE) == 0


@pytest.mark.slow
def test_cameras_turn_together_and_log_heights_are_told_as_losses(open_page, tmp_path):
    surface = make_landscape()
    surface = jxs.Landscape(**(vars(surface) | {"loss": surface.loss + 1}))
    figure = plot.compare({"one": surface, "two": surface}, log=True)
    page = open_page(figure_file(figure, tmp_path), viewport={"width": 600, "height": 450})
    page.evaluate(HOVERED)
    box = page.locator("#scene").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    places = [(x, y), (x + 12, y + 8), (x - 12, y - 6)]
    [*_, ((a, b, height), text)] = hovered_on_surface(page, places)
    loss = a**2 + 3 * b + a * b + 1
    assert height == pytest.approx(np.log10(loss), abs=1e-4)
    assert f"loss {loss:.6g}" in text
    cameras = "['scene', 'scene2'].map(key => figure._fullLayout[key]._scene.getCamera().eye)"
    before, _ = page.evaluate(cameras)
    page.mouse.down()
    page.mouse.move(x + 60, y + 10, steps=4)
    page.mouse.up()
    page.wait_for_timeout(1000)
    one, other = page.evaluate(cameras)
    assert one == pytest.approx(other)
    assert abs(one["x"] - before["x"]) + abs(one["y"] - before["y"]) > 0.1
