"""The explorer in a real browser, without network: numbers, clicks, keys and drawing."""

import base64

import jax
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape import plot
from jaxscape.__main__ import main
from tests.pages import count_pixels, decode_png, has_color, scene_to_screen
from tests.plot.explorer.helpers import loss_and_derivatives, make_points, make_samples

RATE, MOMENTUM, STEPS = 0.03, 0.8, 300
# RMSProp's steps are about as long as its rate. At the bottom of a narrower valley they would
# amplify rounding errors; with a tenth of the rate, it does not get there.
OPTIMIZERS = {
    "gd": optax.sgd(RATE),
    "momentum": optax.sgd(RATE, momentum=MOMENTUM),
    "nesterov": optax.sgd(RATE, momentum=MOMENTUM, nesterov=True),
    "rmsprop": optax.rmsprop(RATE / 10),
    "adam": optax.adam(RATE, b1=MOMENTUM),
}


# Relative to the loss plus mean(y²). Rounding errors are about 1e-15.
LOSS_TOL = 1e-13
# The derivative of a Chebyshev sum of degree 16 amplifies rounding errors by up to 16².
SLOPE_TOL = 1e-11


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page with weighted training data and a small test set."""
    x, y, weight = make_samples("heavy tails")
    with jax.enable_x64(True):
        train, test = jxs.Dataset(x, y, weight), jxs.Dataset(x[:55], y[:55])
        page = plot.explore(train, test, w1=(-2, 2.5), w2=(-3, 1.5))
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    page.write_html(path)
    return path


def test_the_page_is_small_and_self_contained(page_file):
    text = page_file.read_text()
    assert page_file.stat().st_size < 6e6
    assert "<script src" not in text
    assert '<link rel="stylesheet' not in text
    assert "{{" not in text.partition("</style>")[0]


@pytest.mark.slow
def test_the_page_agrees_with_sums_and_with_descend(open_page, page_file, x64):
    page = open_page(page_file)
    x, y, weight = make_samples("heavy tails")
    w1, w2 = make_points(x, 300)
    points = np.stack([w1, w2], axis=1).tolist()
    found = page.evaluate(
        """points => points.map(([w1, w2]) => {
          const {loss, gradient} = jaxscape.lossAndGradient(jaxscape.train, w1, w2);
          return [loss, ...gradient, jaxscape.lossAt(jaxscape.test, w1, w2)];
        })""",
        points,
    )
    loss, by_w1, by_w2, test_loss = np.transpose(found)
    expected, true_by_w1, true_by_w2 = loss_and_derivatives(x, y, weight, w1, w2)
    unit = expected + np.average(y**2, weights=weight)
    assert (abs(loss - expected) / unit).max() < LOSS_TOL
    assert (abs(by_w2 - true_by_w2) / unit).max() < SLOPE_TOL
    # The loss varies over distances in w1 of about w1 itself, or 1 / the largest |x|.
    reach = np.maximum(abs(w1), 1 / abs(x).max())
    assert (abs(by_w1 - true_by_w1) * reach / unit).max() < SLOPE_TOL
    expected, *_ = loss_and_derivatives(x[:55], y[:55], np.ones(55), w1, w2)
    assert (abs(test_loss - expected) / (expected + np.mean(y[:55] ** 2))).max() < LOSS_TOL

    def in_page(optimizer, rate, start, steps):
        return page.evaluate(
            """([optimizer, rate, momentum, start, steps]) => {
              const settings = {optimizer, rate, momentum};
              const {w1, w2, loss, diverged} =
                jaxscape.descend(jaxscape.train, settings, start, steps);
              return {w1, w2, loss, diverged};
            }""",
            [optimizer, rate, MOMENTUM, start, steps],
        )

    train = jxs.Dataset(x, y, weight)
    start = jxs.Weights(0.4, -1.5)
    paths = jxs.descend(
        jxs.squared_error, start, train, optimizer=OPTIMIZERS, epochs=STEPS, record="step"
    )
    assert set(paths) == set(
        page.evaluate("[...document.getElementById('optimizer').options].map(o => o.value)")
    )
    for name, path in paths.items():
        ours = in_page(name, RATE / 10 if name == "rmsprop" else RATE, list(start), STEPS)
        for column, values in (
            ("w1", path.params.w1),
            ("w2", path.params.w2),
            ("loss", path.training_loss),
        ):
            # The documentation promises 1e-9. Where optax adds eps matters from 1e-7 on.
            np.testing.assert_allclose(ours[column], values, rtol=0, atol=1e-9, err_msg=name)
        assert np.hypot(np.ptp(ours["w1"]), np.ptp(ours["w2"])) > 0.5, name

    wild = jxs.descend(jxs.squared_error, start, train, optimizer=optax.sgd(30.0), epochs=400)
    step = in_page("gd", 30.0, list(start), 400)["diverged"]
    # Squares may overflow a step before their sum, or after it.
    assert abs(step - int(wild.diverged_step)) <= 1


TO_SCREEN = """([w1, w2]) => {
  const frame = jaxscape.frameOf(jaxscape.panels.contour);
  const box = jaxscape.panels.contour.plot.getBoundingClientRect();
  return [box.x + frame.x(w1), box.y + frame.y(w2)];
}"""
# Record all status messages from now on.
LISTEN = """() => {
  window.messages = [];
  const status = document.getElementById("status");
  const listener = new MutationObserver(() => messages.push(status.textContent));
  listener.observe(status, { childList: true, characterData: true, subtree: true });
}"""
STEPS_DONE = "jaxscape.state.descents.map(descent => descent.w1.length - 1)"


@pytest.mark.slow
def test_a_click_and_a_key_start_descents(open_page, page_file):
    page = open_page(page_file, viewport={"width": 1200, "height": 900})
    status = page.locator("#status")
    contour, surface = (page.locator(f"#{name}").bounding_box() for name in ("contour", "surface"))
    assert count_pixels(page, "#ff4b1f", contour) == 0
    page.mouse.click(*page.evaluate(TO_SCREEN, [1.7, -2.2]))
    assert "Descent 1. Gradient descent, rate 0.05: starts at w1 1." in status.text_content()
    page.wait_for_function(f"{STEPS_DONE}[0] > 20")
    page.get_by_role("button", name="Pause").click()
    assert count_pixels(page, "#ff4b1f", contour) > 100
    assert count_pixels(page, "#ff4b1f", surface) > 30
    w1, w2 = page.evaluate("[jaxscape.state.descents[0].w1[0], jaxscape.state.descents[0].w2[0]]")
    assert (w1, w2) == (pytest.approx(1.7, abs=0.02), pytest.approx(-2.2, abs=0.02))

    done = page.evaluate(STEPS_DONE)
    page.get_by_role("button", name="Step", exact=True).click()
    assert page.evaluate(STEPS_DONE) == [done[0] + 1]
    assert f"Step {done[0] + 1}: w1" in status.text_content()
    page.get_by_role("button", name="Run").click()

    page.locator("#contour").focus()
    before = page.evaluate("jaxscape.state.cursor")
    for key in ("ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    after = page.evaluate("jaxscape.state.cursor")
    assert after == [pytest.approx(before[0] + 0.045), pytest.approx(before[1] + 0.45)]
    assert "Cursor at w1" in status.text_content()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.get_by_label("Optimizer").select_option("adam")
    page.locator("#contour").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{STEPS_DONE}[1] > 3")
    assert "2. Adam, rate 0.05, β 0.9" in page.locator("#descents").text_content()
    looks = page.evaluate("jaxscape.state.descents.map(d => [d.style.color, d.style.shape])")
    assert looks == [["#ff4b1f", "circle"], ["#ffffff", "square"]]

    page.get_by_label("Learning rate").fill("1")
    page.get_by_label("Optimizer").select_option("gd")
    page.get_by_label("Steps per second").fill("3")
    page.evaluate(LISTEN)
    page.get_by_role("button", name="Start at the cursor").click()
    page.wait_for_function("jaxscape.state.descents[2].diverged !== null")
    # Another descent may end right after it and replace the message.
    messages = "\n".join(page.evaluate("messages"))
    assert "3. Gradient descent, rate 10: diverged at step" in messages
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate(STEPS_DONE) == []
    assert page.get_by_label("Optimizer").input_value() == "gd"
    assert count_pixels(page, "#ff4b1f", contour) == 0


@pytest.mark.slow
def test_on_a_phone_nothing_overflows_and_a_tap_starts(open_page, page_file):
    page = open_page(
        page_file,
        viewport={"width": 360, "height": 740},
        has_touch=True,
        color_scheme="dark",
        reduced_motion="reduce",
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.touchscreen.tap(*page.evaluate(TO_SCREEN, [-1.0, -1.0]))
    page.wait_for_function(f"{STEPS_DONE}[0] > 3")
    assert page.evaluate("scrollY") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_in_a_narrow_panel_the_surface_is_not_cut_off(open_page, page_file):
    """In two columns, as on a page of the documentation, nothing is drawn at the panel's edges."""
    page = open_page(page_file, viewport={"width": 736, "height": 820})
    page.locator("#surface canvas").first.wait_for()
    page.wait_for_timeout(1000)
    box = page.locator("#surface").bounding_box()
    assert box["height"] > 1.5 * box["width"]
    inner = {"y": int(box["y"]) + 2, "width": 3, "height": int(box["height"]) - 4}
    for left in (box["x"] + 1, box["x"] + box["width"] - 4):
        assert count_pixels(page, "#ffffff", inner | {"x": int(left)}) == 3 * inner["height"]


WEIGHTS = "jaxscape.state.descents.map(({ w1, w2 }) => [w1, w2])"


@pytest.fixture(scope="module")
def samples():
    """Return inputs and targets of a noisy network."""
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
    """Return which pixels of a panel have the first descent's color, and a map to pixels."""
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

    def to_pixels(x, y):
        right = left + width * (x - across[0]) / (across[1] - across[0])
        return right, top + height * (up[1] - y) / (up[1] - up[0])

    return has_color(decode_png(base64.b64decode(png)), "#ff4b1f"), to_pixels


def distances(drawn, right, down):
    """Return the distance in pixels of each position from the nearest drawn pixel."""
    rows, columns = np.nonzero(drawn)
    distance = np.hypot(columns + 0.5 - right[:, None], rows + 0.5 - down[:, None])
    return distance.min(axis=1, initial=999)


@pytest.mark.slow
def test_the_curve_of_the_network_follows_its_descent(open_page, explorer):
    page, downs = start_paused(open_page(explorer)), []
    for steps in (1, 40):
        page.wait_for_function(f"{STEPS_DONE}[0] >= {steps - 1}")
        page.get_by_role("button", name="Step", exact=True).click()
        [[w1, w2]] = page.evaluate(WEIGHTS)
        drawn, to_pixels = canvas(page, "fit")
        x = np.linspace(-1.5, 1.5, 31)
        right, down = to_pixels(x, w2[-1] * np.tanh(w1[-1] * x))
        assert distances(drawn, right, down).max() < 2
        downs.append(down)
        page.get_by_role("button", name="Run").click()
    # The curve has moved.
    assert distances(drawn, right, downs[0]).max() > 20


@pytest.mark.slow
def test_the_loss_chart_grows_with_each_step(open_page, explorer, samples):
    x, y = samples
    page, ends = start_paused(open_page(explorer)), []
    for step in (1, 2, 3):
        page.get_by_role("button", name="Step", exact=True).click()
        [[w1, w2]] = np.array(page.evaluate(WEIGHTS))[..., None]
        loss = ((w2 * np.tanh(w1 * x) - y) ** 2).mean(axis=1)
        assert len(loss) == step + 1
        drawn, to_pixels = canvas(page, "loss")
        height = np.log10(loss) if page.evaluate("jaxscape.state.scale.log") else loss
        right, down = to_pixels(np.arange(step + 1), height)
        assert distances(drawn, right[1:], down[1:]).max() < 2
        ends.append(np.flatnonzero(drawn.any(axis=0))[-1] - right[-1])
    # Half of the marker is beyond the last step; the next step would be 4.5 pixels further.
    assert ends == pytest.approx([4] * 3, abs=2)


@pytest.mark.slow
def test_descents_have_the_momentum_of_the_slider(open_page, explorer, samples, x64):
    page, momenta = open_page(explorer), (0.3, 0.85)
    page.get_by_label("Optimizer").select_option("momentum")
    for momentum in momenta:
        page.get_by_label("Momentum β").fill(str(momentum))
        page.get_by_role("button", name="Start at the cursor").click()
    page.wait_for_function(f"Math.min(...{STEPS_DONE}) >= 30")
    page.get_by_role("button", name="Pause").click()
    paths = [np.array(path) for path in page.evaluate(WEIGHTS)]
    for momentum, weights in zip(momenta, paths, strict=True):
        path = jxs.descend(
            jxs.squared_error,
            jxs.Weights(*weights[:, 0]),
            jxs.Dataset(*samples),
            optimizer=optax.sgd(0.05, momentum=momentum),
            epochs=weights.shape[1] - 1,
            record="step",
        )
        np.testing.assert_allclose(weights, path.params, rtol=0, atol=1e-5)
    assert abs(paths[0][:, :30] - paths[1][:, :30]).max() > 0.1


@pytest.mark.slow
def test_a_click_on_the_surface_starts_a_descent_and_a_drag_turns_it(open_page, explorer):
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
    assert scene_to_screen(page, "#surface .plot", node) == pytest.approx(mouse, abs=8)
    page.mouse.click(*mouse)
    [[w1, w2]] = page.evaluate(WEIGHTS)
    assert [w1[0], w2[0]] == node[:2]
    page.mouse.move(mouse[0] + 2, mouse[1], steps=2)
    page.wait_for_timeout(500)
    page.mouse.down()
    page.mouse.move(mouse[0] + 14, mouse[1] + 3)
    page.mouse.up()
    assert len(page.evaluate(STEPS_DONE)) == 1


def test_a_notebook_shows_the_page_in_a_frame():
    page = plot.explore(jxs.Dataset([1.0, -2.0], [0.5, 0.3]))
    assert repr(page).startswith("Explorer(")
    assert page._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')


@pytest.mark.parametrize(
    ("train", "more", "message"),
    [
        ([1.0, 2.0], {}, "train: expected a Dataset"),
        (
            jxs.Dataset(np.ones((3, 2)), np.ones(3)),
            {},
            r"train: .* x of shape \(n,\), got \(3, 2\)",
        ),
        (jxs.Dataset(np.ones(3), np.ones((3, 1))), {}, r"train: .* y of shape \(n,\)"),
        (jxs.Dataset([1.0], [1.0]), {"test": 3}, "test: expected a Dataset"),
        (jxs.Dataset([1.0], [1.0]), {"w1": (2, -2)}, r"w1: expected \(lo, hi\).* got \(2, -2\)"),
        (jxs.Dataset([1.0], [1.0]), {"w2": (0, np.inf)}, "w2: expected"),
        (jxs.Dataset([1.0], [1.0]), {"w2": (0, 1, 50)}, "w2: expected"),
        (jxs.Dataset([1.0], [1.0]), {"w2": "ab"}, "w2: expected"),
        (
            jax.tree.map(lambda leaf: leaf * np.inf, jxs.Dataset([1.0], [1.0])),
            {},
            "train: expected finite numbers",
        ),
    ],
)
def test_wrong_data_and_ranges_are_errors(train, more, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plot.explore(train, **more)


def test_a_missing_folder_is_an_error(tmp_path):
    page = plot.explore(jxs.Dataset([1.0], [1.0]))
    with pytest.raises(ValueError, match="expected a folder that exists"):
        page.write_html(tmp_path / "missing" / "explorer.html")


@pytest.mark.parametrize("other", [["--as-published"], ["--function", "f.py:f", "--box=0:1,0:1"]])
def test_the_command_line_explores_only_the_squared_error(other, capsys):
    with pytest.raises(SystemExit):
        main(["--explore", *other])
    assert "--explore: expected neither --function nor --as-published" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_line_writes_the_page(tmp_path, capsys):
    figure, page = tmp_path / "surface.html", tmp_path / "explorer.html"
    assert main(["--output", str(figure), "--explore", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert '"samples": 7000' in page.read_text()
