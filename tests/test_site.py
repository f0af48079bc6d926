"""The documentation pages list every name and figure, build with all code run, and draw."""

import importlib.util
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxscape as jxs
from jaxscape import plot
from tests.pages import count_pixels

DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = {name for name in jxs.__all__ if isinstance(getattr(jxs, name), types.ModuleType)}


def test_every_public_name_is_on_the_api_page():
    """A package lists its own names by its `__all__`; the build checks that all are there."""
    page = (DOCS / "api.md").read_text()
    listed = re.findall(r"^\.\. auto(?:function|class|data|exception):: (\w+)$", page, re.M)
    assert sorted(listed) == sorted({*jxs.__all__} - PACKAGES)
    assert sorted(re.findall(r"automodule:: jaxscape\.(\w+)", page)) == sorted(PACKAGES)


def test_every_figure_function_is_in_the_gallery():
    headings = re.split(r"^### ", (DOCS / "gallery.md").read_text(), flags=re.M)[1:]
    shown = {name: text for text in headings for name in re.findall(r"^`plot\.(\w+)`", text)}
    assert shown.keys() == {*plot.__all__} - {"HTML_CONFIG", "write"}
    for name, text in shown.items():
        code = "".join(re.findall(r"```{code-cell}\n(.*?)```", text, re.S))
        assert f"jxs.plot.{name}(" in code


def test_every_page_is_in_the_contents_and_runs_its_cells():
    pages = {path.stem: path.read_text() for path in DOCS.glob("*.md")}
    contents = "".join(re.findall(r"```{toctree}\n(.*?)```", pages["index"], re.S))
    assert {*re.findall(r"^(\w+)$", contents, re.M)} == pages.keys() - {"index"}
    for name, text in pages.items():
        assert ("```{code-cell}" in text) == text.startswith("---\nfile_format: mystnb\n"), name


def test_every_image_is_shown_and_has_code_that_makes_it():
    texts = [path.read_text() for path in (DOCS.parent / "README.md", *DOCS.glob("*.md"))]
    shown = {name for text in texts for name in re.findall(r"images/(\w+)\.png\)", text)}
    assert {path.stem for path in (DOCS / "images").iterdir()} == shown
    script = (DOCS / "figures.py").read_text()
    assert all(f'"{name}"' in script or f"def {name}(" in script for name in shown - {"grid_speed"})


def test_notebooks_are_made_from_the_pages():
    pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
    spec = importlib.util.spec_from_file_location("notebooks", DOCS / "notebooks.py")
    notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebooks)
    for page in notebooks.PAGES:
        assert (DOCS / f"{page}.ipynb").read_text() == notebooks.notebook(page), page


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built by `docs/conf.py`: a warning, or a cell that fails or warns, is an error."""
    folder = tmp_path_factory.mktemp("site")
    warnings = folder / "warnings.txt"
    command = [sys.executable, "-m", "sphinx", "-q", "-j", "2", "-W", "-w", str(warnings)]
    cache = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).parents[1] / "pages"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    built = subprocess.run(
        [*command, DOCS, folder], capture_output=True, text=True, env=environment
    )
    assert built.returncode == 0, warnings.read_text() or built.stderr[-5000:]
    return folder


@pytest.mark.slow
def test_the_site_builds_and_figures_are_drawn(site, open_page):
    page = open_page(site / "index.html", viewport={"width": 1200, "height": 900})
    assert count_pixels(page, "#ff4b1f") > 100
    # On a phone nothing is wider than the page, and a figure is drawn when it comes into view.
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto((site / "start.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    last = page.locator("div.figure").last
    assert last.locator(".main-svg").count() == 0
    last.scroll_into_view_if_needed()
    last.locator(".main-svg").first.wait_for(timeout=120_000)
    # All pages share one file of plotly.js.
    assert not [page for page in site.glob("*.html") if "plotly.js v" in page.read_text()]
