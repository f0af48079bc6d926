"""The command line, as a user runs it."""

import os
import subprocess
import sys

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape.__main__ import main


def run(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "jaxscape", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )


def test_without_arguments_it_draws_the_true_surface(tmp_path):
    done = run(folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["data"] == "7,000 training and 3,000 test points"
    assert lines["surface"].startswith("80 × 80, exact, from 105.695 to 114.296")
    assert "lowest cell" in done.stdout
    assert "w1 = 0.1, w2 = -2, on the edge" in done.stdout
    assert "from (-1, -1)" in lines["descent"]
    assert "to (-2.21, -0.3531)" in lines["descent"]
    assert lines["written"] == "surface.html"
    page = (tmp_path / "surface.html").read_text()
    assert "<script src" not in page  # plotly.js is inside: it opens offline
    assert '"showSendToCloud": false' in page
    assert "4/4" in done.stderr


def test_as_published_and_saved(tmp_path, capsys):
    output, saved = tmp_path / "p.html", tmp_path / "p.npz"
    assert main(["--as-published", "--output", str(output), "--save", str(saved)]) == 0
    assert "as published" in capsys.readouterr().out
    loaded = jxs.archive.load(saved)
    published = jxs.article.as_published()
    np.testing.assert_array_equal(loaded.landscape.loss, published.surface.loss)
    np.testing.assert_array_equal(loaded.paths[0].params.w1, published.path.params.w1)


def test_the_page_is_the_same_each_time(tmp_path):
    for name in ("a.html", "b.html"):
        assert main(["--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_folder_that_is_not_there_is_said_before_anything_is_computed(tmp_path, capsys):
    for option in ("--output", "--save"):
        with pytest.raises(SystemExit) as stop:
            main(["--output", str(tmp_path / "a.html"), option, str(tmp_path / "no" / "a")])
        assert stop.value.code == 2
        assert "expected a folder that exists" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
