"""Make the notebooks from the pages: `python docs/notebooks.py` (needs the extra `docs`).

The pages run when the site is built, so the code in the notebooks has run. Outputs are left out.
"""

from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook

DOCS = Path(__file__).parent
PAGES = ("start", "models")
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook(page: str) -> str:
    """Return a page as the JSON of a notebook. Equal pages give equal text."""
    book = read_myst_markdown_notebook((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    book.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number}"
    nbformat.validate(book)
    return nbformat.writes(book, version=4) + "\n"


def main() -> None:
    """Write each notebook next to its page."""
    for page in PAGES:
        (DOCS / f"{page}.ipynb").write_text(notebook(page), encoding="utf-8")


if __name__ == "__main__":
    main()
