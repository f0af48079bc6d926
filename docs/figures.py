"""Make the pictures of the documentation: `python docs/figures.py` (extras `export` and `test`)."""

import contextlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plotly.graph_objects as go

import jaxscape as jxs

IMAGES = Path(__file__).parent / "images"
STUDENT = jxs.data.teacher_student(jax.random.key(0))


def surfaces() -> None:
    """Draw the article's surface, as published and as intended."""
    for name, title, experiment in (
        ("published", "As published", jxs.article.as_published()),
        ("intended", "As intended", jxs.article.as_intended()),
    ):
        figure = jxs.plot.surface(*experiment)
        figure.update_layout(title_text=title, font_size=20, title_font_size=34)
        figure.update_scenes({f"{axis}axis_title_font_size": 26 for axis in "xy"})
        # The title of the color bar is larger than the name of the axis.
        figure.update_scenes(zaxis_title_text="")
        figure.update_traces(colorbar_title_text="loss", selector={"type": "surface"})
        # The default camera leaves space for small figures. Move it closer.
        eye = figure.layout.scene.camera.eye
        figure.update_layout(scene_camera_eye={axis: 0.82 * eye[axis] for axis in "xyz"})
        write(figure, name, 1000, 720)


def optimizers() -> go.Figure:
    """Draw the paths of six optimizers from the same start."""
    paths = jxs.descend(
        jxs.squared_error,
        jxs.Weights(-1.2, 1.6),
        STUDENT,
        optimizer={
            "SGD": optax.sgd(0.05),
            "momentum": optax.sgd(0.05, momentum=0.9),
            "Nesterov": optax.sgd(0.05, momentum=0.9, nesterov=True),
            "RMSProp": optax.rmsprop(0.03),
            "Adam": optax.adam(0.05),
            "L-BFGS": optax.lbfgs(),
        },
        epochs=300,
    )
    surface = jxs.landscape(jxs.squared_error, STUDENT, w1=(-2.5, 2.5, 401), w2=(-4, 2.5, 401))
    return jxs.plot.contour(surface, *paths.values())


def basins() -> go.Figure:
    """Draw the basins of SGD with momentum from 512 × 384 starts, and two descents."""
    momentum = optax.sgd(0.3, momentum=0.9)
    found = jxs.basins(
        jxs.squared_error, STUDENT, optimizer=momentum, w1=(-4, 4, 512), w2=(-3, 3, 384)
    )
    starts = jxs.Weights(jnp.array([-1.0, 1.0]), jnp.array([0.4, -0.4]))
    runs = jxs.descend(jxs.squared_error, starts, STUDENT, runs=2, optimizer=momentum, epochs=200)
    return jxs.plot.basins(found, *runs)


def trainability() -> go.Figure:
    """Draw where training converges, with one learning rate per layer."""
    layers = optax.inject_hyperparams(
        lambda first, second: optax.partition(
            {"first": optax.sgd(first), "second": optax.sgd(second)}, jxs.Weights("first", "second")
        )
    )(first=0.1, second=0.1)
    after = jxs.training.FinalLoss(jxs.squared_error, jxs.Weights(0.5, 1.5), layers, epochs=300)
    plane = jxs.training.hyperparameter_plane("first", "second")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jxs.NonFiniteWarning)
        surface = jxs.landscape(
            after, STUDENT, plane, first=(1.9, 3.6, 640), second=(1.2, 1.9, 480)
        )
    figure = jxs.plot.trainability(surface)
    figure.update_xaxes(title="learning rate of the first layer")
    return figure.update_yaxes(title="learning rate of the second layer")


def stability() -> go.Figure:
    """Draw the edge of stability for a network with 1,153 parameters."""
    sizes = ((1, 32), (32, 32), (32, 1))
    keys = jax.random.split(jax.random.key(0), 3)
    params = [
        {"w": jax.random.normal(key, size) / np.sqrt(size[0]), "b": jnp.zeros(size[1])}
        for key, size in zip(keys, sizes, strict=True)
    ]

    def model(params: Any, x: jax.Array) -> jax.Array:
        hidden = x[:, None]
        for layer in params[:-1]:
            hidden = jnp.tanh(hidden @ layer["w"] + layer["b"])
        return (hidden @ params[-1]["w"] + params[-1]["b"])[:, 0]

    x = jnp.linspace(-np.pi, np.pi, 60)
    data, loss = jxs.Dataset(x, jnp.sin(2 * x)), jxs.squared_error.of(model)
    gradient_descent = optax.inject_hyperparams(optax.sgd)(learning_rate=0.02)
    path = jxs.descend(loss, params, data, optimizer=gradient_descent, epochs=9000, record=20)
    return jxs.plot.stability(jxs.curvature.edge_of_stability(loss, path, data))


def orders() -> tuple[go.Figure, go.Figure]:
    """Draw the article's descent from near the origin, with 200 orders of the samples."""
    train, test = jxs.article.data()
    runs = jxs.descend(
        jxs.squared_error,
        jxs.Weights(-0.1, -0.3),
        train,
        optimizer=optax.sgd(0.01),
        epochs=25,
        batch_size=128,
        evaluate=test,
        key=jax.random.split(jax.random.key(0), 200),
    )
    surface = jxs.landscape(jxs.squared_error, test, w1=(-1.5, 1.5, 401), w2=(-3, 3, 401))
    return jxs.plot.contour(surface, runs), jxs.plot.fan(runs)


def steps() -> go.Figure:
    """Draw the step sizes of the article's descent, with a constant and a decreasing rate."""
    train, _ = jxs.article.data()
    sgd = optax.inject_hyperparams(optax.sgd)
    paths = jxs.descend(
        jxs.squared_error,
        jxs.article.START,
        train,
        optimizer={"constant": sgd(0.01), "cosine": sgd(optax.cosine_decay_schedule(0.01, 1375))},
        epochs=25,
        batch_size=128,
        record="step",
    )
    return jxs.plot.steps(*paths.values(), landscape=jxs.article.surface())


def critical() -> go.Figure:
    """Draw a teacher's surface with its critical points, valley and minimax path."""
    data = jxs.data.teacher_student(jax.random.key(0), noise=0.3)
    loss = jxs.squared_error
    surface = jxs.landscape(loss, data, w1=(-4, 4, 401), w2=(-2.5, 2.5, 321))
    points = jxs.critical_points(loss, data, w1=(-4, 4), w2=(-2.5, 2.5))
    path = jxs.topology.minimax_path(surface, points.points[0], points.points[1], points)
    valley = jxs.topology.valley(loss, data, w1=(-4, 4, 801))
    return jxs.plot.contour(surface, critical=points, valley=valley, minimax_path=path)


def explorer() -> None:
    """Take a picture of the explorer after 120 steps of five descents."""
    from playwright.sync_api import sync_playwright

    train, test = jxs.data.split(
        jxs.data.teacher_student(jax.random.key(0), noise=0.1), 0.3, jax.random.key(1)
    )
    chromium = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        file = Path(folder) / "explorer.html"
        jxs.plot.explore(train, test, w1=(-2, 3), w2=(-2, 2)).write_html(file)
        flags = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(file.as_uri())
        page.wait_for_function("window.jaxscape")
        page.evaluate("jaxscape.state.paused = true")
        for name, rate, w1, w2 in (
            ("gd", -1.0, 2.4, -1.2),
            ("momentum", -1.6, -1.5, 1.6),
            ("nesterov", -1.6, -0.4, -1.8),
            ("rmsprop", -1.3, 0.4, 1.7),
            ("adam", -1.0, 2.6, 1.9),
        ):
            page.get_by_label("Optimizer").select_option(name)
            page.get_by_label("Learning rate").fill(str(rate))
            page.evaluate("([w1, w2]) => jaxscape.start(w1, w2)", [w1, w2])
        page.evaluate("stepAll(119)")
        page.get_by_role("button", name="Step", exact=True).click()
        page.wait_for_timeout(3000)
        page.screenshot(path=IMAGES / "explorer.png")
        browser.close()


def document(name: str) -> dict[str, Any]:
    """Run the examples of a page and return its variables."""
    blocks = re.findall(
        r"```(?:python|\{code-cell\}[^\n]*)\n(.*?)```",
        (IMAGES.parent / name).read_text(),
        re.DOTALL,
    )
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in blocks:
            exec(compile(block, name, "exec"), names)
    return names


def digits_by_seed() -> None:
    """Print the numbers of the table in digits.md, one line per network."""
    names = document("digits.md")
    for depth, skip, scale in ((2, 0, 1.4), (2, 1, 0.5), (20, 0, 1.4), (20, 1, 0.5), (20, 1, 1.4)):
        loss = names["losses"][bool(skip)]
        for seed in range(3):
            start = names["start"](jax.random.key(seed), depth, scale)
            params = names["trained"](start, names["batches"], bool(skip))
            plane = jxs.Plane.random(jax.random.key(1), params)
            surface = jxs.landscape(loss, names["train"], plane, a=(-1, 1, 41), b=(-1, 1, 31))
            point = loss, names["train"], params
            top = jxs.curvature.eigenpairs(*point, 1, jax.random.key(2), tolerance=0.01)
            print(
                f"{depth} layers, skip {skip}, scale {scale}, seed {seed}:"
                f" loss {loss(params, names['train']):.3g},"
                f" {len(jxs.topology.persistence(surface).minima)} minima,"
                f" up to {surface.loss.max():.3g}, eigenvalue {top.values[0]:.3g}",
                flush=True,
            )


def write(figure: go.Figure, name: str, width: int = 1100, height: int = 800) -> None:
    """Write one picture."""
    figure.write_image(IMAGES / f"{name}.png", width=width, height=height)


def main() -> None:
    """Write every picture."""
    IMAGES.mkdir(exist_ok=True)
    surfaces()
    draw: Callable[[], go.Figure]
    for draw in (optimizers, basins, trainability):
        write(draw(), draw.__name__)
    explorer()
    write(stability(), "stability", 1000, 900)
    many, losses = orders()
    write(many, "orders")
    write(losses, "fan", 1000, 600)
    write(steps(), "steps", 1000, 600)
    write(critical(), "critical", 1000, 750)
    digits_by_seed()


if __name__ == "__main__":
    main()
