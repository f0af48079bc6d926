"""The page to descend on: right numbers whatever the data, in a real browser, without a network."""

import jax
import numpy as np
import optax
import pytest

import jaxscape as jxs
from jaxscape import plot
from jaxscape.__main__ import main
from jaxscape.plot.explorer.polynomials import panels
from tests.pages import pixels

RATE, MOMENTUM, STEPS = 0.03, 0.8, 300
# RMSProp's steps stay as long as its rate: at a valley's bottom, where they no longer fit, they
# enlarge any rounding. At a tenth it is under way for all steps.
OPTIMIZERS = {
    "gd": optax.sgd(RATE),
    "momentum": optax.sgd(RATE, momentum=MOMENTUM),
    "nesterov": optax.sgd(RATE, momentum=MOMENTUM, nesterov=True),
    "rmsprop": optax.rmsprop(RATE / 10),
    "adam": optax.adam(RATE, b1=MOMENTUM),
}


def samples(kind):
    """x, y, weights: neither symmetric nor of one size, and never the article's."""
    rng = np.random.default_rng(7)
    x = {
        "heavy tails": 3 * rng.standard_t(2, 777) + 0.4,
        "many sizes": np.exp(6 * rng.normal(size=333)) * rng.choice([-1, 1], 333),
        "two sizes": np.concatenate([np.full(50, 10.0), np.full(31, -1e-3), np.zeros(5)]),
        "as float64 goes": np.array([1e-310, 1e-38, -1e38, 3.0]),
        "a perfect fit": rng.normal(size=99),
    }[kind]
    y = 0.8 * np.tanh(1.5 * x)
    if kind != "a perfect fit":
        y = y + 0.3 + 0.2 * rng.normal(size=len(x))
    return x, y, rng.uniform(0.1, 2, len(x))


def points(x, count):
    """Weights on both sides of 0, near it, in the box, and far beyond where all is saturated."""
    rng = np.random.default_rng(8)
    size = abs(x[x != 0])
    most = min(np.log(1e3) - np.log(size.min()), np.log(1e300))
    far = np.exp(rng.uniform(np.log(0.01 / size.max()), most, count))
    w1 = np.concatenate([[0.0], rng.uniform(-3, 3, count), far * rng.choice([-1, 1], count)])
    return w1, 3 * rng.normal(size=w1.size)


def summed(x, y, weight, w1, w2):
    """The loss and its two derivatives, by float64 sums over the samples."""
    weight = weight / weight.sum()
    with np.errstate(over="ignore"):
        h, slope = np.tanh(w1[:, None] * x), x / np.cosh(w1[:, None] * x) ** 2
    residual = w2[:, None] * h - y
    by_w1, by_w2 = 2 * w2 * ((residual * slope) @ weight), 2 * (residual * h) @ weight
    return residual**2 @ weight, by_w1, by_w2


# Degree 16 leaves a rounding, 1e-15; the sums themselves differ by some of them.
LOSS_TOLERANCE = 1e-13
# Differentiating a Chebyshev sum of degree 16 enlarges its last digit by up to 16².
SLOPE_TOLERANCE = 1e-11


@pytest.mark.parametrize(
    "kind", ["heavy tails", "many sizes", "two sizes", "as float64 goes", "a perfect fit"]
)
def test_the_error_is_that_of_the_sums(kind):
    x, y, weight = samples(kind)
    w1, w2 = points(x, 500)
    truth, *_ = summed(x, y, weight, w1, w2)
    found = panels(x, y, weight).error(w1, w2)
    unit = truth + np.average(y**2, weights=weight)
    assert (abs(found - truth) / unit).max() < LOSS_TOLERANCE


def test_where_all_inputs_are_zero_the_error_is_constant():
    found = panels(np.zeros(3), np.array([1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(found.error(np.array([0.0, 5.0]), np.array([1.0, 2.0])), 7.0)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page of weighted training data and a small test set."""
    x, y, weight = samples("heavy tails")
    with jax.enable_x64(True):
        train, test = jxs.Dataset(x, y, weight), jxs.Dataset(x[:55], y[:55])
        page = plot.explore(train, test, w1=(-2, 2.5), w2=(-3, 1.5))
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    page.write_html(path)
    return path


def test_the_page_is_small_and_stands_alone(page_file):
    text = page_file.read_text()
    assert page_file.stat().st_size < 6e6
    assert "<script src" not in text
    assert '<link rel="stylesheet' not in text
    assert "{{" not in text.partition("</style>")[0]


@pytest.mark.slow
def test_the_page_computes_what_the_sums_and_descend_do(open_page, page_file, x64):
    page = open_page(page_file)
    x, y, weight = samples("heavy tails")
    w1, w2 = points(x, 300)
    given = np.stack([w1, w2], axis=1).tolist()
    found = page.evaluate(
        """points => points.map(([w1, w2]) => {
          const {loss, gradient} = jaxscape.lossAndGradient(jaxscape.train, w1, w2);
          return [loss, ...gradient, jaxscape.lossAt(jaxscape.test, w1, w2)];
        })""",
        given,
    )
    loss, by_w1, by_w2, test_loss = np.transpose(found)
    truth, true_by_w1, true_by_w2 = summed(x, y, weight, w1, w2)
    unit = truth + np.average(y**2, weights=weight)
    assert (abs(loss - truth) / unit).max() < LOSS_TOLERANCE
    assert (abs(by_w2 - true_by_w2) / unit).max() < SLOPE_TOLERANCE
    # Along w1 things change over a distance of w1 itself, or of 1 / the largest |x|.
    reach = np.maximum(abs(w1), 1 / abs(x).max())
    assert (abs(by_w1 - true_by_w1) * reach / unit).max() < SLOPE_TOLERANCE
    truth, *_ = summed(x[:55], y[:55], np.ones(55), w1, w2)
    assert (abs(test_loss - truth) / (truth + np.mean(y[:55] ** 2))).max() < LOSS_TOLERANCE

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
            # 1e-5 is promised; where optax adds its eps shows from 1e-7 on.
            np.testing.assert_allclose(ours[column], values, rtol=0, atol=1e-9, err_msg=name)
        assert np.hypot(np.ptp(ours["w1"]), np.ptp(ours["w2"])) > 0.5, name

    wild = jxs.descend(jxs.squared_error, start, train, optimizer=optax.sgd(30.0), epochs=400)
    step = in_page("gd", 30.0, list(start), 400)["diverged"]
    # Squares overflow in one and the sum of them in the other.
    assert abs(step - int(wild.diverged_step)) <= 1


PLACE = """([w1, w2]) => {
  const frame = jaxscape.frameOf(jaxscape.panels.contour);
  const box = jaxscape.panels.contour.plot.getBoundingClientRect();
  return [box.x + frame.x(w1), box.y + frame.y(w2)];
}"""
# All that the status says from now on.
LISTEN = """() => {
  window.said = [];
  const status = document.getElementById("status");
  const listener = new MutationObserver(() => said.push(status.textContent));
  listener.observe(status, { childList: true, characterData: true, subtree: true });
}"""
STEPS_DONE = "jaxscape.state.descents.map(descent => descent.w1.length - 1)"


@pytest.mark.slow
def test_a_click_starts_a_descent_and_so_does_a_key(open_page, page_file):
    page = open_page(page_file, viewport={"width": 1200, "height": 900})
    status = page.locator("#status")
    contour, surface = (page.locator(f"#{name}").bounding_box() for name in ("contour", "surface"))
    assert pixels(page, "#ff4b1f", contour) == 0
    page.mouse.click(*page.evaluate(PLACE, [1.7, -2.2]))
    assert "Descent 1. Gradient descent, rate 0.05: starts at w1 1." in status.text_content()
    page.wait_for_function(f"{STEPS_DONE}[0] > 20")
    page.get_by_role("button", name="Pause").click()
    assert pixels(page, "#ff4b1f", contour) > 100
    assert pixels(page, "#ff4b1f", surface) > 30
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
    looks = page.evaluate("jaxscape.state.descents.map(d => [d.look.color, d.look.shape])")
    assert looks == [["#ff4b1f", "circle"], ["#ffffff", "square"]]

    page.get_by_label("Learning rate").fill("1")
    page.get_by_label("Optimizer").select_option("gd")
    page.get_by_label("Steps per second").fill("3")
    page.evaluate(LISTEN)
    page.get_by_role("button", name="Start at the cursor").click()
    page.wait_for_function("jaxscape.state.descents[2].diverged !== null")
    # The other may come to rest right after it.
    said = "\n".join(page.evaluate("said"))
    assert "3. Gradient descent, rate 10: diverged at step" in said
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate(STEPS_DONE) == []
    assert page.get_by_label("Optimizer").input_value() == "gd"
    assert pixels(page, "#ff4b1f", contour) == 0


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
    page.touchscreen.tap(*page.evaluate(PLACE, [-1.0, -1.0]))
    page.wait_for_function(f"{STEPS_DONE}[0] > 3")
    assert page.evaluate("scrollY") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_in_a_narrow_panel_the_surface_is_whole(open_page, page_file):
    """Two columns, as in a page of the documents: nothing is drawn at the panel's edges."""
    page = open_page(page_file, viewport={"width": 736, "height": 820})
    page.locator("#surface canvas").first.wait_for()
    page.wait_for_timeout(1000)
    box = page.locator("#surface").bounding_box()
    assert box["height"] > 1.5 * box["width"]
    inner = {"y": int(box["y"]) + 2, "width": 3, "height": int(box["height"]) - 4}
    for left in (box["x"] + 1, box["x"] + box["width"] - 4):
        assert pixels(page, "#ffffff", inner | {"x": int(left)}) == 3 * inner["height"]


def test_a_notebook_shows_it_in_a_frame(page_file):
    shown = plot.explore(jxs.data.noisy_sine(jax.random.key(0)))
    assert repr(shown).startswith("Explorer(")
    assert shown._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')


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
def test_what_cannot_be_explored_is_refused(train, more, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plot.explore(train, **more)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    page = plot.explore(jxs.Dataset([1.0], [1.0]))
    with pytest.raises(ValueError, match="expected a folder that exists"):
        page.write_html(tmp_path / "missing" / "explorer.html")


@pytest.mark.parametrize("other", [["--as-published"], ["--function", "f.py:f", "--box=0:1,0:1"]])
def test_the_command_line_explores_the_squared_error_alone(other, capsys):
    with pytest.raises(SystemExit):
        main(["--explore", *other])
    assert "--explore: expected the article's data and the squared error" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_line_writes_the_page(tmp_path, capsys):
    figure, page = tmp_path / "surface.html", tmp_path / "explorer.html"
    assert main(["--output", str(figure), "--explore", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert '"samples": 7000' in page.read_text()
