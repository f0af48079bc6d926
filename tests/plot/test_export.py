"""Figures as files: pages, images, and animations as GIF and MP4."""

import asyncio
import io
import re
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from jaxscape import plot
from jaxscape.plot import export
from jaxscape.plot.explorer.page import Explorer
from tests.plot.helpers import PATH, make_landscape


@pytest.fixture(scope="module")
def figure():
    return plot.animation(make_landscape(), PATH)


def test_a_page_is_complete_offline_reproducible_and_cannot_upload(figure, tmp_path):
    for name in ("a.html", "b.HTML"):
        plot.write(figure, tmp_path / name)
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.HTML").read_text()
    assert len(page) > 4_000_000
    assert "<script src" not in page
    assert "<style>body { margin: 0 }</style>" in page
    assert '"showSendToCloud": false' in page
    assert "Plotly.addFrames" in page
    assert "Plotly.animate(" not in page.rpartition("Plotly.addFrames")[2]
    assert list(tmp_path.iterdir()) == [tmp_path / "a.html", tmp_path / "b.HTML"]


def test_a_page_that_loads_plotly_is_small_and_has_the_given_size(figure, tmp_path):
    plot.write(figure, tmp_path / "a.html", cdn=True, width=640, height=480)
    page = (tmp_path / "a.html").read_text()
    assert len(page) < 100_000
    assert 'src="https://cdn.plot.ly/' in page
    assert "height:480px; width:640px" in page


def test_a_failed_write_leaves_the_existing_file(figure, tmp_path, monkeypatch):
    file = tmp_path / "a.gif"
    file.write_bytes(b"before")
    monkeypatch.setattr(export, "_animate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plot.write(figure, file)
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("file", "more", "message"),
    [
        ("a.jpg", {}, "expected a name ending in .html, .png, .svg, .pdf, .gif, .mp4, got 'a.jpg'"),
        ("a", {}, "file: expected a name ending in"),
        ("no/a.html", {}, "^file: expected a folder that exists, got 'no'"),
        ("no/a.gif", {}, "expected a folder that exists, got 'no'"),
        ("a.png", {"cdn": True}, "cdn: expected a file ending in .html, got 'a.png'"),
        ("a.png", {"width": 0}, "width: expected 1 pixel or more, got 0"),
        ("a.html", {"height": -3}, "height: expected 1 pixel or more, got -3"),
    ],
)
def test_wrong_files_and_sizes_are_errors(figure, file, more, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        plot.write(figure, file, **more)
    assert list(tmp_path.iterdir()) == []


def test_other_objects_and_animations_without_frames_are_errors(tmp_path):
    with pytest.raises(TypeError, match="figure: expected a plotly figure, got Landscape"):
        plot.write(make_landscape(), tmp_path / "a.html")
    with pytest.raises(TypeError, match=r"got Explorer; use its write_html\(file\)"):
        plot.write(Explorer("page"), tmp_path / "a.html")
    with pytest.raises(TypeError, match="width: expected a number, got '600'"):
        plot.write(go.Figure(), tmp_path / "a.html", width="600")
    for suffix in (".gif", ".mp4"):
        with pytest.raises(ValueError, match=f"expected frames for {suffix}.*plot.animation"):
            plot.write(go.Figure(), tmp_path / f"a{suffix}")


@pytest.mark.parametrize("meta", ["linked", ["linked", 3]])
def test_a_figure_with_any_metadata_is_written(meta, tmp_path, monkeypatch):
    durations = []
    monkeypatch.setattr(export, "_run_coroutine", lambda coroutine: coroutine.close())
    monkeypatch.setitem(export._ENCODERS, ".gif", lambda _, t: durations.append(t) or b"gif")
    figure = go.Figure(go.Scatter(y=[1, 2]), {"meta": meta}, [go.Frame(name="one")])
    plot.write(figure, tmp_path / "a.gif")
    plot.write(figure, tmp_path / "a.html", cdn=True)
    assert durations == [100]
    # Only figures with a mapping as metadata have linked panels.
    assert "plotly_hover" not in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("suffix", "packages"),
    [(".svg", "kaleido"), (".gif", "kaleido pillow"), (".mp4", "kaleido imageio-ffmpeg")],
)
def test_a_missing_package_is_named(figure, suffix, packages, tmp_path, monkeypatch):
    for module in ("kaleido", "PIL", "imageio_ffmpeg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=f"{suffix} needs other packages; run pip install {packages}$"
    ):
        plot.write(figure, tmp_path / f"a{suffix}")
    plot.write(figure, tmp_path / "a.html", cdn=True)


def test_a_missing_browser_is_an_error_that_says_what_to_install(figure, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match=r"\.png needs a browser.* kaleido_get_chrome"):
        plot.write(figure, tmp_path / "a.png")


def test_an_image_has_no_controls_and_the_given_size(figure, tmp_path, monkeypatch):
    drawn = []

    def to_image(self, *arguments, **more):
        drawn.append((self.layout.updatemenus, self.layout.sliders, arguments, more))
        return b"image"

    monkeypatch.setattr(go.Figure, "to_image", to_image)
    plot.write(figure, tmp_path / "a.pdf", height=300)
    assert drawn == [((), (), ("pdf",), {"width": 1200, "height": 300})]
    assert (tmp_path / "a.pdf").read_bytes() == b"image"
    assert len(figure.layout.updatemenus) == len(figure.layout.sliders) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize(
    ("suffix", "beginning", "min_bytes"),
    [
        (".svg", rb"<svg ", 20_000),
        (".pdf", rb"%PDF-1\.", 10_000),
        (".mp4", rb"(?s)....ftyp", 10_000),
    ],
)
def test_a_figure_is_written_in_the_other_formats(suffix, beginning, min_bytes, tmp_path):
    """`test_browser` tests PNG and GIF."""
    figure = plot.animation(make_landscape(), PATH, kind="contour")
    plot.write(figure, tmp_path / f"a{suffix}", width=500, height=400)
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert re.match(beginning, content)
    assert len(content) > min_bytes
    if suffix == ".svg":
        assert b"rgb(255, 75, 31)" in content


def pictures():
    """Five images and their PNGs: a smooth color gradient on white, and a square that moves."""
    drawn = []
    for k in range(5):
        image = np.full((60, 90, 3), 255, np.uint8)
        image[10:50, 10:80] = np.stack(
            np.meshgrid(np.arange(70) + 60, np.arange(40) * 3 + 40, [120]), axis=-1
        )[:, :, 0]
        image[20:30, 15 * k : 15 * k + 10] = (255, 75, 31)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        drawn.append((image, file.getvalue()))
    return drawn


def test_a_gif_has_all_pictures_their_durations_and_nearly_their_colors():
    drawn = pictures()
    with Image.open(io.BytesIO(export.encode_gif([png for _, png in drawn], 120))) as file:
        assert file.n_frames == 5
        assert file.info["loop"] == 0
        for k, (image, _) in enumerate(drawn):
            file.seek(k)
            assert file.info["duration"] == (120 if k < 4 else 2000)
            shown = np.asarray(file.convert("RGB")).astype(int)
            # The background is exact. The palette has 255 of 2,800 other colors.
            np.testing.assert_array_equal(shown[(image == 255).all(axis=2)], 255)
            assert abs(shown - image).max() < 24
            # Dithering keeps the mean color of an area.
            difference = shown[31:50, 10:80] - image[31:50, 10:80].astype(int)
            assert abs(difference.mean(axis=(0, 1))).max() < 2


def test_an_mp4_has_all_pictures_and_repeats_the_last(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(export.encode_mp4([png for _, png in pictures()], 250))
    read = f"-loglevel error -i {file} -f rawvideo -pix_fmt rgb24 -"
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), *read.split()], capture_output=True, check=True
    )
    shown = np.frombuffer(done.stdout, np.uint8).reshape(-1, 60, 90, 3)
    assert len(shown) == 5 + 2000 // 250
    for k in range(5):
        reddish = (shown[k, 25].astype(int) @ [1, -1, -1]) > 60
        assert 15 * k <= np.flatnonzero(reddish).mean() < 15 * k + 10
    assert abs(shown[-1].astype(int) - shown[4]).max() < 12


def test_errors_of_ffmpeg_are_in_the_message():
    with pytest.raises(RuntimeError, match="ffmpeg failed: .*[Ii]nvalid"):
        export.encode_mp4([b"no picture"], 100)


def test_the_dither_pattern_has_each_value_once_and_mean_zero():
    matrix = export._bayer_matrix(4, amplitude=32)
    assert sorted(matrix.ravel()) == sorted(np.round(2.0 * np.arange(16) - 15))
    assert abs(matrix.mean()) < 1e-12


def test_a_coroutine_runs_inside_and_outside_of_an_event_loop():
    async def work():
        return [b"done"]

    async def notebook():
        return export._run_coroutine(work())

    assert export._run_coroutine(work()) == asyncio.run(notebook()) == [b"done"]
