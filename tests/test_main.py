"""The command line `python -m jaxscape`."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import termios

import numpy as np
import pytest

import jaxscape as jxs
from jaxscape import plot
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


def test_without_arguments_it_draws_the_mean_squared_error(tmp_path):
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
    assert "<script src" not in page  # The page contains plotly.js and opens offline.
    assert '"showSendToCloud": false' in page
    assert done.stderr == ""


def test_a_terminal_shows_a_progress_bar(tmp_path):
    reader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [sys.executable, "-m", "jaxscape", "--as-published"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    shown = b""
    # Reading raises an error once the other side is closed.
    with contextlib.suppress(OSError):
        while part := os.read(reader, 4096):
            shown += part
    os.close(reader)
    assert process.wait() == 0
    assert re.search(rb"descent .* 2/4 .*done .* 4/4", shown, re.DOTALL)


def test_as_published_saves_the_published_surface_and_path(tmp_path, capsys):
    output, saved = tmp_path / "p.html", tmp_path / "p.npz"
    assert main(["--as-published", "--output", str(output), "--save", str(saved)]) == 0
    assert "as published" in capsys.readouterr().out
    loaded = jxs.archive.load(saved)
    published = jxs.article.as_published()
    np.testing.assert_array_equal(loaded.landscape.loss, published.surface.loss)
    np.testing.assert_array_equal(loaded.paths[0].params.w1, published.path.params.w1)


def test_two_runs_write_the_same_page(tmp_path):
    for name in ("a.html", "b.html"):
        assert main(["--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_missing_folder_raises_an_error_before_anything_is_computed(tmp_path, capsys):
    for option in ("--output", "--save"):
        with pytest.raises(SystemExit) as stop:
            main(["--output", str(tmp_path / "a.html"), option, str(tmp_path / "no" / "a")])
        assert stop.value.code == 2
        assert "expected a folder that exists" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_describe_prints_sentences_and_writes_json(tmp_path, capsys):
    page, summary = tmp_path / "s.html", tmp_path / "s.json"
    arguments = ["--output", str(page), "--describe", "--describe-json", str(summary)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "3 critical points with w1 from -2 to 1.95" in printed
    assert "The infimum of the loss is 99.0866, and no point attains it." in printed
    data = json.loads(summary.read_text())
    assert data["complete"] is True
    assert {point["kind"] for point in data["critical_points"]} == {"saddle"}
    assert set(data["limits"]) >= {"w1_to_0", "w1_to_infinity", "infimum", "attained"}
    assert f"written      {page}, {summary}" in printed


def test_a_box_limits_the_search_for_critical_points(tmp_path):
    summary = tmp_path / "s.json"
    arguments = ["--output", str(tmp_path / "s.html"), "--describe-json", str(summary)]
    assert main([*arguments, "--box=-200:200,-5:5"]) == 0
    data = json.loads(summary.read_text())
    kinds = [point["kind"] for point in data["critical_points"]]
    assert kinds == ["minimum", "minimum", "saddle", "saddle", "saddle"]
    assert data["box"] == {"w1": [-200, 200], "w2": [-5, 5]}
    assert all(point["certified"] for point in data["critical_points"])


def test_a_function_from_a_file_is_drawn_and_described(tmp_path, capsys):
    file = tmp_path / "hills.py"
    file.write_text("def bowl(a, b):\n    return (a - 1) ** 2 + a * b + 2 * b**2\n")
    arguments = ["--function", f"{file}:bowl", "--box=-3:3,-2:2", "--describe"]
    assert main([*arguments, "--output", str(tmp_path / "s.html")]) == 0
    printed = capsys.readouterr().out
    assert "surface      201 × 201, dense" in printed
    assert "A minimum at w1 = 1.14286, w2 = -0.285714" in printed
    assert "training" not in printed
    assert "descent" not in printed


def test_an_image_and_an_animation_are_written(tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "write", lambda figure, file: drawn.append((file.name, figure)))
    assert main(["--png", "a.png", "--gif", "b.gif"]) == 0
    assert "written      surface.html, a.png, b.gif" in capsys.readouterr().out
    assert [(name, len(figure.frames)) for name, figure in drawn] == [
        *(("b.gif", 26), ("a.png", 0), ("surface.html", 0)),
    ]


def test_after_ctrl_c_it_names_the_files_written(tmp_path, monkeypatch, capsys):
    def write(_, file):
        if file.suffix == ".png":
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "write", write)
    assert main(["--png", "a.png", "--gif", "b.gif"]) == 130
    assert capsys.readouterr().err.endswith("jaxscape: interrupted; wrote b.gif\n")
    assert main(["--png", "a.png"]) == 130
    assert capsys.readouterr().err.endswith("jaxscape: interrupted; wrote nothing\n")


def test_an_image_without_a_browser_is_an_error_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BROWSER_PATH", "nowhere")
    with pytest.raises(SystemExit):
        main(["--png", str(tmp_path / "a.png")])
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: file: .png needs a browser, and none was found at nowhere" in last
    assert "the value of BROWSER_PATH" in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--describe", "--box=3"], "expected four numbers W1LO:W1HI,W2LO:W2HI, got '3'"),
        (["--describe", "--box=1:0,0:1"], "expected finite W1LO < W1HI"),
        (["--describe", "--box=0:inf,0:1"], "expected finite W1LO < W1HI"),
        (["--box=0:1,0:1"], "expected --describe, --describe-json or --function"),
        (["--function", "no.py:f", "--box=0:1,0:1"], "of an existing file, got 'no.py'"),
        (["--function", "here.py:f", "--box=0:1,0:1"], "expected a function 'f' in here.py"),
        (["--function", "here.py:g"], "expected a --box as well"),
        (["--function", "here.py:g", "--as-published"], "--as-published: expected the article's"),
        (["--gif", "a.png"], "--gif: expected a name ending in .gif, got a.png"),
        (["--explore=a.png"], "--explore: expected a name ending in .html, got a.png"),
        (["--output", "x.txt"], "--output: expected a name ending in .html, got x.txt"),
        (["--png", "no/a.png"], "--png: expected a folder that exists"),
        (["--gif", "a.gif", "--function", "here.py:g", "--box=0:1,0:1"], "--gif: expected the art"),
        (["--describe-json", "no/summary.json"], "--describe-json: expected a folder that exists"),
    ],
)
def test_bad_arguments_raise_an_error_before_anything_is_written(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.py").write_text("def g(a, b):\n    return a + b\n")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "surface.html").exists()
