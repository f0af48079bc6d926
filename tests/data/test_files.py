"""Datasets read from CSV and `.npz` files."""

import numpy as np
import pytest

import jaxscape as jxs


def test_two_columns_of_a_csv_file_are_read(tmp_path):
    path = tmp_path / "points.CSV"
    path.write_text('\ufefft,"y, in m",name\n1,2.5,a\n-3e-1,4,b\n\n', encoding="utf-8")
    data = jxs.data.read_dataset(path, x="t", y="y, in m")
    np.testing.assert_array_equal(data.x, np.float32([1, -0.3]))
    np.testing.assert_array_equal(data.y, np.float32([2.5, 4]))


def test_two_arrays_of_an_npz_file_are_read(tmp_path):
    np.savez(tmp_path / "points.npz", x=np.arange(3), y=np.float32([1, 2, 3]))
    data = jxs.data.read_dataset(str(tmp_path / "points.npz"))
    np.testing.assert_array_equal(data.x, [0, 1, 2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.csv", None, "path: expected an existing file, got .*no.csv'"),
        ("data.txt", "x,y\n1,2\n", "path: expected a file ending in .csv or .npz, got 'data.txt'"),
        ("a.csv", "x,z\n1,2\n", r"y: expected one of \['x', 'z'\] of a.csv, got 'y'"),
        ("b.csv", "x,y\n1,2\n3,four\n", "y: expected a number in line 3 of b.csv, got 'four'"),
        ("c.csv", "x,y\n1,2\n3\n", "y: expected a number in line 3 of c.csv, got no value"),
        ("d.csv", "x,y\n", r"x: expected at least one sample"),
        ("e.csv", "", r"x: expected one of \[\] of e.csv"),
        ("f.csv", "x,y\n1,nan\n", "y: expected finite"),
        ("g.csv", b"\xff\xfe\x00\x81", "path: expected a CSV text file, got 'g.csv'"),
        ("h.npz", "hello", "path: expected an .npz file, got 'h.npz'"),
        ("i.npz", {"x": [1.0]}, r"y: expected one of \['x'\] of i.npz, got 'y'"),
        (
            "j.npz",
            {"x": [None], "y": [1.0]},
            "path: expected an undamaged file, got 'j.npz' .*[Oo]bject arrays",
        ),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, dict):
        np.savez(path, **{key: np.array(value) for key, value in content.items()})
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        jxs.data.read_dataset(path)


def test_a_single_array_and_a_folder_are_not_npz_files(tmp_path):
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="got 'array.npz', a single array"):
        jxs.data.read_dataset(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="expected an existing file"):
        jxs.data.read_dataset(tmp_path)
