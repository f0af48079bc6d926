"""`python -m jaxscape`: the article's experiment, from data to a figure that turns."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from jaxscape import archive, article, plot
from jaxscape.network import squared_error


def main(arguments: list[str] | None = None) -> int:
    """Run the article's experiment, print what came of it and write the figure."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxscape",
        description="Draw the loss surface of f(x) = w2·tanh(w1·x) on the data of Rozanov (2024) "
        "and the descent of SGD on it.",
    )
    parser.add_argument(
        "--as-published",
        action="store_true",
        help="with the article's loss, which compares every prediction with every target of its "
        "batch, in place of the mean squared error",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("surface.html"), help="the figure (%(default)s)"
    )
    parser.add_argument("--save", type=Path, help="keep surface and descent in this .npz file")
    options = parser.parse_args(arguments)
    files = [path for path in (options.output, options.save) if path]
    try:
        for path in files:
            archive.check_place(path)
    except ValueError as error:
        parser.error(str(error))
    loss = article.broadcast_squared_error if options.as_published else squared_error

    with tqdm(total=4, bar_format="{desc:<18}{bar} {n}/{total} {elapsed}", leave=False) as bar:

        def stage(name: str, done: int) -> None:
            bar.n = done
            bar.set_description_str(name)

        try:
            stage("data", 0)
            train, test = article.data()
            stage("surface", 1)
            surface = article.surface(loss)
            stage("descent", 2)
            descent = article.path(loss)
            stage("files", 3)
            html = plot.surface(surface, descent).to_html(
                config=plot.HTML_CONFIG, div_id="jaxscape", default_height="100vh"
            )
            with archive.replacing(options.output) as file:
                file.write(html.encode())
            if options.save:
                archive.save(options.save, surface, descent)
            stage("done", 4)
        except (ValueError, OSError) as error:
            bar.close()
            print(f"python -m jaxscape: {error}", file=sys.stderr)
            return 1

    cell = surface.lowest
    assert cell is not None  # the article's losses are finite everywhere
    w1, w2 = descent.params
    edge = "on the edge" if surface.lowest_is_on_edge else "inside"
    rows = {
        "data": f"{len(train):,} training and {len(test):,} test points",
        "loss": surface.loss_name + (" (as published)" if options.as_published else ""),
        "surface": f"{surface.shape[0]} × {surface.shape[1]}, {surface.method}, "
        f"from {cell.loss:.6g} to {float(surface.loss.max()):.6g}",
        "lowest cell": f"{cell.loss:.6g} at w1 = {cell.a:.4g}, w2 = {cell.b:.4g}, {edge}",
        "descent": f"{len(descent) - 1} epochs of {descent.steps_per_epoch} steps, "
        f"from ({w1[0]:.4g}, {w2[0]:.4g}) at {descent.loss[0]:.6g} "
        f"to ({w1[-1]:.4g}, {w2[-1]:.4g}) at {descent.loss[-1]:.6g}",
        "written": ", ".join(map(str, files)),
    }
    for name, text in rows.items():
        print(f"{name:<12} {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
