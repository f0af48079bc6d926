"""The command line, `python -m jaxscape`: draw the article's surface and the descent on it."""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxscape import archive, article, plot
from jaxscape._util.files import check_target_file
from jaxscape.data.dataset import Dataset
from jaxscape.description import Description, describe
from jaxscape.grid.landscape import landscape
from jaxscape.losses.function import Function
from jaxscape.losses.pointwise import squared_error
from jaxscape.plot.export import check_file
from jaxscape.results.landscape import Landscape
from jaxscape.results.trajectory import Trajectory

_NODES = 201
"""The number of grid points along each axis of a `--function`."""


def main(arguments: list[str] | None = None) -> int:
    """Compute the surface and the descent, print a summary and write the figure.

    Args:
        arguments: the arguments after the program's name; None for those of the command line.

    Returns:
        The exit status: 0, 1 after an error, or 130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    describing = options.describe or options.describe_json
    if options.function and options.as_published:
        parser.error("--as-published: expected the article's experiment, got --function")
    if options.function and not options.box:
        parser.error("--function: expected a --box as well, the rectangle to draw")
    if options.box and not (options.function or describing):
        parser.error("--box: expected --describe, --describe-json or --function as well")
    if options.explore and (options.function or options.as_published):
        parser.error("--explore: expected neither --function nor --as-published")
    if options.gif and options.function:
        parser.error("--gif: expected the article's experiment; a --function has no descent")
    outputs = {
        "--output": options.output,
        "--png": options.png,
        "--gif": options.gif,
        "--explore": options.explore,
        "--save": options.save,
        "--describe-json": options.describe_json,
    }
    files = [path for path in outputs.values() if path]
    if len({path.resolve() for path in files}) < len(files):
        parser.error(f"expected a different file for each output, got {_join(files)}")
    try:
        for option, path in outputs.items():
            if path:
                check_target_file(path, option)
        endings = {"--png": ".png", "--gif": ".gif", "--output": ".html", "--explore": ".html"}
        for option, suffix in endings.items():
            path = outputs[option]
            if path and path.suffix.lower() != suffix:
                raise ValueError(f"{option}: expected a name ending in {suffix}, got {path}")
        for image in filter(None, (options.png, options.gif)):
            check_file(image)
        loss = _loss(options)
    except (ImportError, RuntimeError, ValueError) as error:
        parser.error(str(error))

    written: list[Path] = []
    stages = ["data", "surface", "descent", *["description"] * bool(describing), "files", "done"]
    # disable=None shows the bar in a terminal only.
    with tqdm(
        total=len(stages) - 1,
        bar_format="{desc:<18}{bar} {n}/{total} {elapsed}",
        leave=False,
        disable=None,
    ) as bar:

        def begin(stage: str) -> None:
            bar.n = stages.index(stage)
            bar.set_description_str(stage)

        try:
            begin("data")
            train, test = article.data()
            begin("surface")
            paths: list[Trajectory] = []
            if options.function:
                axes: dict[str, Any] = {k: (*side, _NODES) for k, side in options.box.items()}
                surface = landscape(loss, None, **axes)
            else:
                surface = article.surface(loss)
                begin("descent")
                paths = [article.path(loss)]
            description = None
            if describing:
                begin("description")
                data = None if options.function else test
                description = describe(surface, loss, data, **(options.box or {}))
            begin("files")
            for path in _write(options, surface, paths, description, (train, test)):
                written.append(path)
            begin("done")
        except KeyboardInterrupt:
            bar.close()
            result = f"wrote {_join(written)}" if written else "wrote nothing"
            print(f"python -m jaxscape: interrupted; {result}", file=sys.stderr)
            return 130
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            bar.close()
            print(f"python -m jaxscape: {error}", file=sys.stderr)
            return 1

    rows = {"data": f"{len(train):,} training and {len(test):,} test points"}
    for name, text in (
        ({} if options.function else rows)
        | _surface_rows(surface, options.as_published)
        | _path_rows(paths)
        | {"written": _join(files)}
    ).items():
        print(f"{name:<12} {text}")
    if description and options.describe:
        print(f"\n{description}")
    return 0


def _write(
    options: Any,
    surface: Landscape,
    paths: list[Trajectory],
    description: Description | None,
    data: tuple[Dataset, Dataset],
) -> Iterator[Path]:
    """Write the files, the slowest first, and yield each when it is complete."""
    figure = plot.surface(surface, *paths)
    if options.gif:
        plot.write(plot.animation(surface, *paths), options.gif)
        yield options.gif
    if options.png:
        plot.write(figure, options.png)
        yield options.png
    plot.write(figure, options.output)
    yield options.output
    if options.explore:
        plot.explore(*data).write_html(options.explore)
        yield options.explore
    if options.save:
        archive.save(options.save, surface, *paths)
        yield options.save
    if description and options.describe_json:
        with archive.replacing(options.describe_json) as file:
            file.write(json.dumps(description.data, indent=1, allow_nan=False).encode())
        yield options.describe_json


def _join(files: list[Path]) -> str:
    return ", ".join(map(str, files))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxscape",
        description="Draw the loss surface of f(x) = w2·tanh(w1·x) on the data of Rozanov (2024), "
        "with the path of SGD.",
    )
    parser.add_argument(
        "--as-published",
        action="store_true",
        help="use the article's loss, which compares every prediction with every target of its "
        "batch, instead of the mean squared error",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("surface.html"), help="the figure, default %(default)s"
    )
    parser.add_argument(
        "--explore",
        type=Path,
        nargs="?",
        const=Path("explorer.html"),
        metavar="FILE",
        help="also write a page on which a click starts a descent, default %(const)s",
    )
    parser.add_argument(
        "--png", type=Path, metavar="FILE", help="also write an image of the figure"
    )
    parser.add_argument(
        "--gif", type=Path, metavar="FILE", help="also write an animation of the descent"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="also save the surface and the path as .npz"
    )
    parser.add_argument(
        "--describe",
        action="store_true",
        help="print a summary of the surface: range, minima, critical points, symmetries, limits",
    )
    parser.add_argument(
        "--describe-json", type=Path, metavar="FILE", help="also write the summary as JSON"
    )
    parser.add_argument(
        "--box",
        type=_box,
        metavar="W1LO:W1HI,W2LO:W2HI",
        help="search this rectangle for critical points instead of the drawn one, for example "
        "--box=-3:3,-2:2; with --function, also draw it",
    )
    parser.add_argument(
        "--function",
        metavar="FILE.py:NAME",
        help="draw this function of two numbers, written with JAX, over the --box instead of the "
        "article's experiment",
    )
    return parser


def _box(text: str) -> dict[str, tuple[float, float]]:
    try:
        first, second = ([float(end) for end in side.split(":")] for side in text.split(","))
        (a, b), (c, d) = first, second
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected four numbers W1LO:W1HI,W2LO:W2HI, got {text!r}"
        ) from None
    if not (abs(a) < float("inf") > abs(b) and abs(c) < float("inf") > abs(d) and a < b and c < d):
        raise argparse.ArgumentTypeError(f"expected finite W1LO < W1HI and W2LO < W2HI, got {text}")
    return {"w1": (a, b), "w2": (c, d)}


def _loss(options: Any) -> Callable[[Any, Any], Any]:
    """Return the loss that the options select."""
    if not options.function:
        return article.broadcast_squared_error if options.as_published else squared_error
    file, _, name = options.function.rpartition(":")
    path = Path(file)
    if not (path.suffix == ".py" and path.is_file()):
        raise ValueError(f"--function: expected FILE.py:NAME of an existing file, got {file!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"--function: expected a function {name!r} in {file}, got none")
    return Function(function)


def _surface_rows(surface: Landscape, as_published: bool) -> dict[str, str]:
    cell = surface.lowest
    if cell is None:
        return {"surface": "no finite loss"}
    where = "on the edge" if surface.lowest_is_on_edge else "inside"
    return {
        "loss": surface.loss_name + (" (as published)" if as_published else ""),
        "surface": f"{surface.shape[0]} × {surface.shape[1]}, {surface.method}, "
        f"from {cell.loss:.6g} to {surface.highest:.6g}",
        "lowest cell": f"{cell.loss:.6g} at w1 = {cell.a:.4g}, w2 = {cell.b:.4g}, {where}",
    }


def _path_rows(paths: list[Trajectory]) -> dict[str, str]:
    rows = {}
    for path in paths:
        w1, w2 = path.params
        rows["descent"] = (
            f"{len(path) - 1} epochs of {path.steps_per_epoch} steps, "
            f"from ({w1[0]:.4g}, {w2[0]:.4g}) at {path.loss[0]:.6g} "
            f"to ({w1[-1]:.4g}, {w2[-1]:.4g}) at {path.loss[-1]:.6g}"
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
