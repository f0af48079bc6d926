"""Make the pictures of the documents: `python docs/figures.py` (needs the extra `export`)."""

from pathlib import Path

import jaxscape as jxs

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write every picture."""
    IMAGES.mkdir(exist_ok=True)
    for name, title, experiment in (
        ("published", "As published", jxs.article.as_published()),
        ("intended", "As it truly is", jxs.article.as_intended()),
    ):
        figure = jxs.plot.surface(*experiment)
        figure.update_layout(title_text=title, font_size=20, title_font_size=34)
        figure.update_scenes(xaxis_title_font_size=26, yaxis_title_font_size=26)
        figure.update_traces(colorbar_title_text="loss", selector={"type": "surface"})
        figure.write_image(IMAGES / f"{name}.png", width=1000, height=800)
    jxs.plot.contour(*experiment).write_image(IMAGES / "contour.png", width=1000, height=750)


if __name__ == "__main__":
    main()
