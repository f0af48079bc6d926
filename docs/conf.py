"""Configuration of the documentation: `python -m sphinx -W docs build/site` builds it.

The code on the pages runs during the build.
"""

import operator
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import plotly.offline
from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

import jaxscape as jxs  # noqa: E402

project, author, version = "jaxscape", "the authors of jaxscape", jxs.__version__
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_kernel", "**.ipynb"]

html_theme = "furo"
html_title = "jaxscape"
html_static_path = ["_static"]
html_js_files = ["figures.js"]
html_css_files = ["pages.css"]
html_copy_source = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# Every cell runs, with one kernel per page. A cell that fails, warns or hangs ends the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_output_stderr = "error"
nb_merge_streams = True
os.environ["IPYTHONDIR"] = str(DOCS / "_kernel")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(DOCS.parent), os.environ.get("PYTHONPATH")])
)

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
# As a custom section, "Returns" is text, and its first colon does not end a type.
napoleon_custom_sections = ["Returns"]


def public_names() -> set[str]:
    """Return every name that the API page must have."""
    names = set()
    for name in jxs.__all__:
        value = getattr(jxs, name)
        if isinstance(value, types.ModuleType):
            names |= {f"jaxscape.{name}.{inner}" for inner in value.__all__}
        else:
            names.add(f"jaxscape.{name}")
    return names


def check_api(app: Sphinx, env: Any) -> None:
    """End the build if a public name is missing on the API page or has no docstring."""
    documented = env.get_domain("py").objects
    if missing := sorted(public_names() - documented.keys()):
        raise ExtensionError(f"not on the API page: {', '.join(missing)}")
    undocumented = sorted(
        name for name in public_names() if not operator.attrgetter(name[9:])(jxs).__doc__
    )
    if undocumented:
        raise ExtensionError(f"without a docstring: {', '.join(undocumented)}")


def escape_marks(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list) -> None:
    """Escape the marks in texts such as |r| and **axes, which are not markup in docstrings."""
    in_example = False
    for k, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or ">>>" in line)
        if not in_example:
            lines[k] = re.sub(r"`[^`]*`|\||\*+(?=\w)", _escape, line)


def _escape(match: re.Match[str]) -> str:
    text = match[0]
    return text if text.startswith("`") else "".join(f"\\{mark}" for mark in text)


# JAX does not write its cache atomically, and under `-j` several kernels run at the same time.
_CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR")


def separate_caches(app: Sphinx, page: str, content: list[str]) -> None:
    """Give each page's kernel a folder of its own in JAX's compilation cache, if there is one."""
    if _CACHE:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_CACHE, page)


def write_plotly(app: Sphinx) -> None:
    """Write the installed plotly.js once for all pages."""
    folder = Path(app.outdir) / "_static"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plotly.min.js").write_text(plotly.offline.get_plotlyjs(), encoding="utf-8")
    os.environ["JAXSCAPE_STATIC"] = str(folder)


def _mathml(translator: Any, node: nodes.math | nodes.math_block) -> None:
    block = isinstance(node, nodes.math_block)
    translator.body.append(latex2mathml.tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Render mathematics as MathML, which browsers draw without a script."""
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    app.connect("builder-inited", write_plotly)
    app.connect("source-read", separate_caches)
    app.connect("autodoc-process-docstring", escape_marks, priority=1)
    app.connect("env-check-consistency", check_api)
