"""Every kind of page in a browser: drawn in colors of its own, and what moves on the explorer."""

import base64
import io
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from PIL import Image

import jaxscape as jxs
from jaxscape import plot
from tests.pages import in_space

GALLERY = Path(__file__).parents[2] / "docs" / "gallery.md"
PATH, BORDER, ARROW = "#ff4b1f", "#c8007c", "#ff7ae0"
RED, BLUE, GREEN, LIGHT, YELLOW = "#d55e00", "#0072b2", "#009e73", "#56b4e9", "#e69f00"
LOWEST, HIGHEST = "#440154", "#fde725"


@pytest.fixture(scope="module")
def of():
    """Results of all kinds, small, and on grids of another size along each axis."""
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


# Of each kind what share of its panels is no gray, and how many pixels have its colors, at least.
KINDS = {
    "surface": (
        lambda of: plot.surface(of.surface, of.path, **of.known),
        0.05,
        {PATH: 150, BLUE: 30, LIGHT: 30, GREEN: 60},
    ),
    "contour": (
        lambda of: plot.contour(of.surface, of.path, **of.known),
        0.95,
        {PATH: 200, BLUE: 120, LIGHT: 100, GREEN: 200},
    ),
    "side_by_side": (lambda of: plot.side_by_side(of.surface, of.path), 0.38, {PATH: 350}),
    "compare": (
        lambda of: plot.compare({"one": (of.surface, of.path), "two": of.surface}),
        0.05,
        {PATH: 130},
    ),
    "animation": (lambda of: plot.animation(of.surface, of.path), 0.045, {PATH: 140}),
    "animation from above": (
        lambda of: plot.animation(of.surface, of.path, kind="contour"),
        0.95,
        {PATH: 250},
    ),
    "fit": (lambda of: plot.fit(of.surface, of.predictions), 0.045, {PATH: 500}),
    "profile": (lambda of: plot.profile(of.valley, of.points), 0, {BLUE: 800, GREEN: 700, RED: 90}),
    "slopes": (lambda of: plot.slopes(of.fields), 0.8, {ARROW: 3500}),
    "curvature": (lambda of: plot.curvature(of.fields), 0.05, {BORDER: 300, RED: 350}),
    "spectrum": (lambda of: plot.spectrum(of.density, of.eigenpairs), 0, {BLUE: 1000, RED: 40}),
    "steps": (
        lambda of: plot.steps(of.path, landscape=of.surface),
        0,
        {"#e08640": 200, "#803800": 300},
    ),
    "stability": (lambda of: plot.stability(of.stability), 0, {RED: 300, BLUE: 400, GREEN: 500}),
    "fan": (lambda of: plot.fan(of.runs), 0, {RED: 900, "#cce3f0": 7500, "#7ab6d7": 1500}),
    "basins": (lambda of: plot.basins(of.basins), 0.95, {YELLOW: 40, BLUE: 40}),
    "trainability": (lambda of: plot.trainability(of.trained), 0.95, {LOWEST: 100, HIGHEST: 100}),
    "lines": (lambda of: plot.lines(of.lines), 0, {BLUE: 1000}),
}


def test_no_figure_of_the_gallery_is_left_out():
    """The explorer has tests of its own, below."""
    named = re.findall(r"^### `plot\.(\w+)`", GALLERY.read_text(), re.MULTILINE)
    assert {kind.partition(" ")[0] for kind in KINDS} == set(named) - {"explore"}


def rgba(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)


def alike(image, color):
    """Where an image has about this color."""
    rgb = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
    return (abs(image[..., :3] - rgb).sum(axis=2) < 60) & (image[..., 3] > 200)


PANELS = """() => {
  const figure = document.getElementById("jaxscape");
  const { x, y } = figure.getBoundingClientRect();
  const { l, t, w, h } = figure._fullLayout._size;
  return { x: x + l, y: y + t, width: w, height: h };
}"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_drawn_in_its_own_colors(open_page, of, tmp_path, kind):
    """Between its axes: the legend has the colors, too."""
    draw, share, colors = KINDS[kind]
    plot.write(draw(of), tmp_path / "figure.html")
    page = open_page(tmp_path / "figure.html", viewport={"width": 600, "height": 450})
    image = rgba(page.screenshot(clip=page.evaluate(PANELS)))
    assert (np.ptp(image[..., :3], axis=2) > 40).mean() >= share
    found = {color: int(alike(image, color).sum()) for color in colors}
    assert all(found[color] >= least for color, least in colors.items()), found


# The explorer

STEPS_DONE = "jaxscape.state.descents.map(descent => descent.w1.length - 1)"
WAY = "jaxscape.state.descents.map(({ w1, w2 }) => [w1, w2])"


@pytest.fixture(scope="module")
def samples():
    data = jxs.data.teacher_student(jax.random.key(0), n=40, noise=0.3)
    return np.asarray(data.x, float), np.asarray(data.y, float)


@pytest.fixture(scope="module")
def explorer(samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    plot.explore(jxs.Dataset(*samples), w1=(-2, 2.5), w2=(-3, 1.5)).write_html(path)
    return path


def start_paused(page):
    page.evaluate("jaxscape.state.paused = true; jaxscape.start(0.4, -1.5)")
    return page


def canvas(page, name):
    """Where the first descent is drawn over a panel, and what places there its axes give values."""
    png, left, top, width, height, across, up = page.evaluate(
        """name => {
          const { plot, canvas } = jaxscape.panels[name];
          const { left, top, width, height } = jaxscape.frameOf(jaxscape.panels[name]);
          const { xaxis, yaxis } = plot._fullLayout;
          const png = canvas.toDataURL().split(",")[1];
          return [png, left, top, width, height, xaxis.range, yaxis.range];
        }""",
        name,
    )

    def places(x, y):
        right = left + width * (x - across[0]) / (across[1] - across[0])
        return right, top + height * (up[1] - y) / (up[1] - up[0])

    return alike(rgba(base64.b64decode(png)), PATH), places


def off(drawn, right, down):
    """How far places are, in pixels, from the next that has the descent's color."""
    rows, columns = np.nonzero(drawn)
    away = np.hypot(columns + 0.5 - right[:, None], rows + 0.5 - down[:, None])
    return away.min(axis=1, initial=999)


@pytest.mark.slow
def test_the_curve_follows_its_descent(open_page, explorer):
    page, downs = start_paused(open_page(explorer)), []
    for steps in (1, 40):
        page.wait_for_function(f"{STEPS_DONE}[0] >= {steps - 1}")
        page.get_by_role("button", name="Step", exact=True).click()
        [[w1, w2]] = page.evaluate(WAY)
        drawn, places = canvas(page, "fit")
        x = np.linspace(-1.5, 1.5, 31)
        right, down = places(x, w2[-1] * np.tanh(w1[-1] * x))
        assert off(drawn, right, down).max() < 2
        downs.append(down)
        page.get_by_role("button", name="Run").click()
    # Where it was is not where it is.
    assert off(drawn, right, downs[0]).max() > 20


@pytest.mark.slow
def test_the_chart_grows_by_the_loss_of_each_step(open_page, explorer, samples):
    x, y = samples
    page, ends = start_paused(open_page(explorer)), []
    for step in (1, 2, 3):
        page.get_by_role("button", name="Step", exact=True).click()
        [[w1, w2]] = np.array(page.evaluate(WAY))[..., None]
        loss = ((w2 * np.tanh(w1 * x) - y) ** 2).mean(axis=1)
        assert len(loss) == step + 1
        drawn, places = canvas(page, "loss")
        height = np.log10(loss) if page.evaluate("jaxscape.state.scale.log") else loss
        right, down = places(np.arange(step + 1), height)
        assert off(drawn, right[1:], down[1:]).max() < 2
        ends.append(np.flatnonzero(drawn.any(axis=0))[-1] - right[-1])
    # Half of the mark is beyond the last step, and the next would be 4.5 pixels further.
    assert ends == pytest.approx([4] * 3, abs=2)


@pytest.mark.slow
def test_descents_have_the_sliders_momentum(open_page, explorer, samples, x64):
    page, momenta = open_page(explorer), (0.3, 0.85)
    page.get_by_label("Optimizer").select_option("momentum")
    for momentum in momenta:
        page.get_by_label("Momentum β").fill(str(momentum))
        page.get_by_role("button", name="Start at the cursor").click()
    page.wait_for_function(f"Math.min(...{STEPS_DONE}) >= 30")
    page.get_by_role("button", name="Pause").click()
    ways = [np.array(way) for way in page.evaluate(WAY)]
    for momentum, way in zip(momenta, ways, strict=True):
        path = jxs.descend(
            jxs.squared_error,
            jxs.Weights(*way[:, 0]),
            jxs.Dataset(*samples),
            optimizer=optax.sgd(0.05, momentum=momentum),
            epochs=way.shape[1] - 1,
            record="step",
        )
        np.testing.assert_allclose(way, path.params, rtol=0, atol=1e-5)
    assert abs(ways[0][:, :30] - ways[1][:, :30]).max() > 0.1


@pytest.mark.slow
def test_a_click_on_the_surface_starts_there_and_a_drag_only_turns_it(open_page, explorer):
    page = open_page(explorer, viewport={"width": 1200, "height": 900})
    page.evaluate(
        """jaxscape.panels.surface.plot.on("plotly_hover", ({ points: [{ x, y, z }] }) => {
          window.hovered = [x, y, z];
        })"""
    )
    box = page.locator("#surface").bounding_box()
    mouse = [box["x"] + 0.5 * box["width"], box["y"] + 0.55 * box["height"]]
    page.mouse.move(*mouse, steps=3)
    page.wait_for_function("window.hovered")
    page.wait_for_timeout(500)
    node = page.evaluate("hovered")
    assert in_space(page, "#surface .plot", node) == pytest.approx(mouse, abs=8)
    page.mouse.click(*mouse)
    [[w1, w2]] = page.evaluate(WAY)
    assert [w1[0], w2[0]] == node[:2]
    page.mouse.move(mouse[0] + 2, mouse[1], steps=2)
    page.wait_for_timeout(500)
    page.mouse.down()
    page.mouse.move(mouse[0] + 14, mouse[1] + 3)
    page.mouse.up()
    assert len(page.evaluate(STEPS_DONE)) == 1


@pytest.mark.slow
def test_on_a_telephone_a_surface_is_seen_whole(of, tmp_path, open_page):
    """From further away, as it is narrow; and it fills the window, which does not scroll."""
    figure, eyes = plot.surface(of.surface, of.path), {}
    plot.write(figure, tmp_path / "page.html")
    for width in (390, 1000):
        page = open_page(tmp_path / "page.html", viewport={"width": width, "height": 844})
        eyes[width] = page.evaluate(
            "document.getElementById('jaxscape')._fullLayout.scene.camera.eye"
        )
        assert page.evaluate("document.documentElement.scrollHeight") == 844
    as_drawn = figure.layout.scene.camera.eye
    assert eyes[1000] == pytest.approx({axis: as_drawn[axis] for axis in "xyz"})
    times = [eyes[390][axis] / eyes[1000][axis] for axis in "xyz"]
    assert times == pytest.approx([times[0]] * 3)
    assert times[0] > 1.5
