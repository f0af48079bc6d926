"""Make the notebooks from the pages' text: `python docs/notebooks.py` (needs the extra `docs`).

The pages run when the site is built, so that the notebooks hold code that ran; outputs are left
out.
"""

from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook

DOCS = Path(__file__).parent
PAGES = ("start", "models")
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook(page: str) -> str:
    """A page as a notebook: its JSON, the same each time."""
    book = read_myst_markdown_notebook((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    book.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number}"
    nbformat.validate(book)
    return nbformat.writes(book, version=4) + "\n"


def main() -> None:
    """Write them beside their pages."""
    for page in PAGES:
        (DOCS / f"{page}.ipynb").write_text(notebook(page), encoding="utf-8")


if __name__ == "__main__":
    main()
