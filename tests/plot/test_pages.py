"""Figures in a real browser: each kind has its colors, and the mouse and the controls work.

The explorer has tests of its own in `tests/plot/explorer`.
"""

import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape import plot
from jaxscape.__main__ import main
from jaxscape.plot import scripts
from tests.pages import count_pixels, decode_png, has_color, scene_to_screen

GALLERY = Path(__file__).parents[2] / "docs" / "gallery.md"
PATH, BORDER, ARROW = "#ff4b1f", "#c8007c", "#ff7ae0"
RED, BLUE, GREEN, LIGHT, YELLOW = "#d55e00", "#0072b2", "#009e73", "#56b4e9", "#e69f00"
LOWEST, HIGHEST = "#440154", "#fde725"


@pytest.fixture(scope="module")
def results():
    """Small results of every kind, on grids that are not square."""
    loss, data = jxs.squared_error, jxs.data.teacher_student(jax.random.key(0), n=40, noise=0.3)
    grid, box = {"w1": (-3, 3, 31), "w2": (-2, 2, 21)}, {"w1": (-3, 3), "w2": (-2, 2)}
    surface, points = jxs.landscape(loss, data, **grid), jxs.critical_points(loss, data, **box)
    tuned = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5, momentum=0.0)
    start, near = jxs.Weights(-0.5, 1.8), jxs.Weights(-0.2, -0.4)
    key = jax.random.key(1)
    path = jxs.descend(loss, start, data, optimizer=tuned, epochs=12)
    plane = jxs.training.hyperparameter_plane("learning_rate", "momentum")
    rates = {"learning_rate": (0.05, 3.0, 12), "momentum": (0.0, 0.9, 9)}
    after = jxs.training.FinalLoss(loss, start, tuned, epochs=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jxs.NonFiniteWarning)
        trained = jxs.landscape(after, data, plane, **rates)
    valley = jxs.topology.valley(loss, data, w1=(0.1, 3, 60))
    minimum = jxs.Weights(points.points[1].a, points.points[1].b)
    return SimpleNamespace(
        surface=surface,
        path=path,
        points=points,
        valley=valley,
        known={
            "critical": points,
            "valley": valley,
            "minimax_path": jxs.topology.minimax_path(surface, *points.points[:2], points),
        },
        fields=jxs.derivatives(loss, data, **grid),
        predictions=jxs.training.predictions(loss, path, data),
        density=jxs.curvature.spectral_density(loss, data, minimum, key),
        eigenpairs=jxs.curvature.eigenpairs(loss, data, minimum, 1, key),
        stability=jxs.curvature.edge_of_stability(loss, path, data),
        runs=jxs.descend(
            loss,
            near,
            data,
            optimizer=optax.sgd(0.5),
            epochs=5,
            batch_size=4,
            key=jax.random.split(key, 9),
        ),
        basins=jxs.basins(loss, data, optimizer=optax.sgd(0.3), w1=(-3, 3, 24), w2=(-2, 2, 16)),
        trained=trained,
        lines=jxs.connectivity.interpolate(loss, data, start, minimum),
    )


# For each kind: the figure, the least fraction of colored pixels between its axes, and the least
# number of pixels of certain colors.
KINDS = {
    "surface": (
        lambda r: plot.surface(r.surface, r.path, **r.known),
        0.05,
        {PATH: 150, BLUE: 30, LIGHT: 30, GREEN: 60},
    ),
    "contour": (
        lambda r: plot.contour(r.surface, r.path, **r.known),
        0.95,
        {PATH: 200, BLUE: 120, LIGHT: 100, GREEN: 200},
    ),
    "side_by_side": (lambda r: plot.side_by_side(r.surface, r.path), 0.38, {PATH: 350}),
    "compare": (
        lambda r: plot.compare({"one": (r.surface, r.path), "two": r.surface}),
        0.05,
        {PATH: 130},
    ),
    "animation": (lambda r: plot.animation(r.surface, r.path), 0.045, {PATH: 140}),
    "animation from above": (
        lambda r: plot.animation(r.surface, r.path, kind="contour"),
        0.95,
        {PATH: 250},
    ),
    "fit": (lambda r: plot.fit(r.surface, r.predictions), 0.045, {PATH: 500}),
    "profile": (lambda r: plot.profile(r.valley, r.points), 0, {BLUE: 800, GREEN: 700, RED: 90}),
    "slopes": (lambda r: plot.slopes(r.fields), 0.8, {ARROW: 3500}),
    "curvature": (lambda r: plot.curvature(r.fields), 0.05, {BORDER: 300, RED: 350}),
    "spectrum": (lambda r: plot.spectrum(r.density, r.eigenpairs), 0, {BLUE: 1000, RED: 40}),
    "steps": (
        lambda r: plot.steps(r.path, landscape=r.surface),
        0,
        {"#e08640": 200, "#803800": 300},
    ),
    "stability": (lambda r: plot.stability(r.stability), 0, {RED: 300, BLUE: 400, GREEN: 500}),
    "fan": (lambda r: plot.fan(r.runs), 0, {RED: 900, "#cce3f0": 7500, "#7ab6d7": 1500}),
    "basins": (lambda r: plot.basins(r.basins), 0.95, {YELLOW: 40, BLUE: 40}),
    "trainability": (lambda r: plot.trainability(r.trained), 0.95, {LOWEST: 100, HIGHEST: 100}),
    "lines": (lambda r: plot.lines(r.lines), 0, {BLUE: 1000}),
}


def test_every_figure_of_the_gallery_has_a_test():
    named = re.findall(r"^### `plot\.(\w+)`", GALLERY.read_text(), re.MULTILINE)
    assert {kind.partition(" ")[0] for kind in KINDS} == set(named) - {"explore"}


AXES_BOX = """() => {
  const figure = document.getElementById("jaxscape");
  const { x, y } = figure.getBoundingClientRect();
  const { l, t, w, h } = figure._fullLayout._size;
  return { x: x + l, y: y + t, width: w, height: h };
}"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_has_its_colors_between_its_axes(open_page, results, tmp_path, kind):
    draw, min_fraction, min_counts = KINDS[kind]
    plot.write(draw(results), tmp_path / "figure.html")
    page = open_page(tmp_path / "figure.html", viewport={"width": 600, "height": 450})
    image = decode_png(page.screenshot(clip=page.evaluate(AXES_BOX)))
    assert (np.ptp(image[..., :3], axis=2) > 40).mean() >= min_fraction
    counts = {color: int(has_color(image, color).sum()) for color in min_counts}
    assert all(counts[color] >= least for color, least in min_counts.items()), counts


def make_landscape():
    """Return a landscape of w1² + 3·w2 + w1·w2."""
    a, b = np.linspace(-2, 1, 31), np.linspace(0, 5, 21)
    loss = a[:, None] ** 2 + 3 * b + a[:, None] * b
    axes = jxs.Axis(a, "w1"), jxs.Axis(b, "w2")
    return jxs.Landscape(loss, *axes, loss_name="loss", method="dense")


def make_path():
    """Return a straight path of 9 epochs on this surface."""
    w1, w2 = np.linspace(-1.5, 0.5, 9), np.linspace(4, 1, 9)
    return jxs.Trajectory(
        params=jxs.Weights(w1, w2),
        step=np.arange(9),
        training_loss=w1**2 + 3 * w2 + w1 * w2,
        evaluation_loss=None,
        diverged_step=np.int32(-1),
        steps_per_epoch=1,
    )


def figure_file(figure, folder):
    """Write a figure as plotly does, with the figure's script."""
    path = folder / "figure.html"
    script = scripts.page_script(figure)
    figure.write_html(path, config=plot.HTML_CONFIG, div_id="figure", post_script=script)
    return path


SCENE = {"x": 0, "y": 100, "width": 850, "height": 500}


@pytest.mark.slow
@pytest.mark.parametrize("published", [False, True])
def test_the_page_of_the_command_line_shows_surface_and_path(open_page, tmp_path, published):
    output = tmp_path / "surface.html"
    main(["--output", str(output), *(["--as-published"] if published else [])])
    page = open_page(output)
    assert count_pixels(page, "#ff4b1f", SCENE) > 300
    assert page.locator(".legendtext", has_text="descent: start (-1, -1)").count() == 1
    assert page.get_by_title("Share").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("draw", [plot.surface, plot.contour])
def test_only_the_path_has_its_color(open_page, tmp_path, draw):
    with_path = open_page(figure_file(draw(make_landscape(), make_path()), tmp_path))
    assert count_pixels(with_path, "#ff4b1f", SCENE) > 300
    without = open_page(figure_file(draw(make_landscape()), tmp_path))
    assert count_pixels(without, "#ff4b1f", SCENE) == 0


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
def test_hover_on_the_contour_shows_the_cell_under_the_mouse(open_page, tmp_path):
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
def test_hover_on_the_surface_and_its_path_shows_their_losses(open_page, tmp_path):
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
    hovered_points = 0
    # The ends have markers of their own, and the surface may hide other points.
    for k in range(1, 8):
        page.mouse.move(*scene_to_screen(page, "#figure", (points.x[k], points.y[k], points.z[k])))
        page.wait_for_timeout(250)
        kind, *position, height = page.evaluate("window.hovered.at(-1)")
        if kind != "scatter3d" or position != pytest.approx([points.x[k], points.y[k]]):
            continue
        hovered_points += 1
        # The point is drawn above the surface; the text shows its own loss.
        loss = path.training_loss[k]
        assert height > loss + 1e-3
        text = page.locator(".hovertext").first.text_content()
        assert f"descentw1 {position[0]:.5g}w2 {position[1]:.5g}loss {loss:.6g}epoch {k}" in text
    assert hovered_points >= 4


PRESS = """async ([fraction, late]) => {
  const figure = document.getElementById("jaxscape");
  const rail = document.querySelector(".slider-rail-touch-rect").getBoundingClientRect();
  const [x, y] = [rail.x + fraction * rail.width, rail.y + rail.height / 2];
  const place = { clientX: x, clientY: y, bubbles: true, cancelable: true, view: window };
  const pressed = document.elementFromPoint(x, y);
  const frame = new Promise((resolve) => figure.once("plotly_animatingframe", resolve));
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
    # When an animation is paused, plotly.js rejects its promise without a reason.
    page.evaluate(
        "addEventListener('unhandledrejection', e => e.reason === undefined && e.preventDefault())"
    )

    def shown():
        active = "document.getElementById('jaxscape')._fullLayout.sliders[0].active"
        return page.evaluate(active), count_pixels(page, "#ff4b1f", SCENE)

    assert shown()[0] == 8
    whole = shown()[1]
    page.evaluate(PRESS, [0.26, late])
    page.wait_for_timeout(800)
    early, part = shown()
    assert early == 2
    assert 0 < part < 0.7 * whole
    page.get_by_text("Play", exact=True).click()
    # The heatmap is visible in every frame: few pixels are white.
    heatmap = {"x": 150, "y": 150, "width": 400, "height": 250}
    assert max(count_pixels(page, "#ffffff", heatmap) for _ in range(10)) < 20_000
    page.wait_for_function(
        "document.getElementById('jaxscape')._fullLayout.sliders[0].active > 3", timeout=20_000
    )
    page.get_by_text("Pause", exact=True).click()
    page.wait_for_timeout(800)
    paused = shown()
    assert paused[0] > 3
    page.wait_for_timeout(800)
    assert shown() == paused


def hover_surface(page, positions):
    """Return the surface points (w1, w2, height) under the mouse at some positions, with texts."""
    found = []
    for x, y in positions:
        page.mouse.move(x, y, steps=2)
        page.wait_for_timeout(250)
        last = page.evaluate("window.hovered.at(-1)")
        if last and last[0] == "surface":
            found.append((last[1:], page.locator(".hovertext").first.text_content()))
    return found


MARKER = """
() => {
  const marker = document.querySelector(".linked-marker");
  const box = marker.getBoundingClientRect();
  return [marker.style.display, box.x + box.width / 2, box.y + box.height / 2, marker.textContent];
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
    """A marker shows the point under the mouse in the other panel; the legend switches both."""
    figure = plot.side_by_side(make_landscape(), make_path())
    page = open_page(figure_file(figure, tmp_path))
    page.evaluate(HOVERED)
    a, b = -1.1, 1.75
    page.mouse.move(*page.evaluate(ON_CONTOUR, [a, b]))
    page.wait_for_timeout(300)
    shown, x, y, text = page.evaluate(MARKER)
    assert (shown, text) == ("block", f"w1 {a}\nw2 {b}\nloss {a**2 + 3 * b + a * b:.5g}")
    # Back again: the surface point under the marker is the cell that was under the mouse.
    [((back_a, back_b, height), _)] = hover_surface(page, [(x, y)])
    assert (back_a, back_b) == (pytest.approx(a, abs=0.15), pytest.approx(b, abs=0.4))
    assert height == pytest.approx(back_a**2 + 3 * back_b + back_a * back_b, abs=1e-4)
    shown, x, y, _ = page.evaluate(MARKER)
    assert shown == "block"
    assert [x, y] == pytest.approx(page.evaluate(ON_CONTOUR, [back_a, back_b]), abs=1)
    assert count_pixels(page, "#ff4b1f", SCENE) > 300
    page.locator(".legendtoggle").first.click()
    page.mouse.move(5, 5)
    page.wait_for_timeout(1500)
    assert count_pixels(page, "#ff4b1f", SCENE) == 0


@pytest.mark.slow
def test_cameras_turn_together_and_hover_on_log_heights_shows_losses(open_page, tmp_path):
    surface = make_landscape()
    surface = jxs.Landscape(**(vars(surface) | {"loss": surface.loss + 1}))
    figure = plot.compare({"one": surface, "two": surface}, log=True)
    page = open_page(figure_file(figure, tmp_path), viewport={"width": 600, "height": 450})
    page.evaluate(HOVERED)
    box = page.locator("#scene").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    positions = [(x, y), (x + 12, y + 8), (x - 12, y - 6)]
    [*_, ((a, b, height), text)] = hover_surface(page, positions)
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


@pytest.mark.slow
def test_in_a_narrow_window_the_camera_moves_back(results, tmp_path, open_page):
    """The figure fills the window without scrolling."""
    figure, eyes = plot.surface(results.surface, results.path), {}
    plot.write(figure, tmp_path / "page.html")
    for width in (390, 1000):
        page = open_page(tmp_path / "page.html", viewport={"width": width, "height": 844})
        eyes[width] = page.evaluate(
            "document.getElementById('jaxscape')._fullLayout.scene.camera.eye"
        )
        assert page.evaluate("document.documentElement.scrollHeight") == 844
    as_drawn = figure.layout.scene.camera.eye
    assert eyes[1000] == pytest.approx({axis: as_drawn[axis] for axis in "xyz"})
    factors = [eyes[390][axis] / eyes[1000][axis] for axis in "xyz"]
    assert factors == pytest.approx([factors[0]] * 3)
    assert factors[0] > 1.5
