"""Datasets read from CSV and `.npz` files."""

import zipfile

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
        (
            "b.csv",
            "x,y\n1,2\n3,four\n",
            "y: expected a finite number in line 3 .* got 'four'",
        ),
        ("c.csv", "x,y\n1,2\n3\n", "path: expected 2 values in line 3 of c.csv, as before, got 1"),
        ("d.csv", "x,y\n", r"x: expected at least one sample"),
        ("e.csv", "", r"x: expected one of \[\] of e.csv"),
        ("f.csv", "x,y\n1,nan\n", "y: expected a finite number in line 2 of f.csv, got 'nan'"),
        ("k.csv", "x,y\n0,5,1,5\n1,2,2,0\n", "path: expected 2 values in line 2 .*, got 4"),
        (
            "k.csv",
            "x,y\n1,2\n3,4,\n",
            "path: expected 2 values in line 3 .*, got 3",
        ),
        ("k.csv", "x,y,z\n1,2,3\n4,5\n", "path: expected 3 values in line 3 of k.csv"),
        ("k.csv", 'x,y\n1,2\n3,"4\n5,6\n7,8\n', r"path: .* 'k.csv' \(line 3: unexpected end"),
        (
            "k.csv",
            'x,y,z\n1,2,"a\n3,4,"b\n5,6,c\n',
            r"path: .* \(line 2: .* expected after",
        ),
        ("k.csv", 'x,y\n1,"2"5\n', r"path: .* 'k.csv' \(line 2: ',' expected after"),
        ("k.csv", 'x,y,"z\n1,2,3\n', r"path: .* 'k.csv' \(line 1: unexpected end"),
        ("k.csv", "x,y,x\n1,2,3\n", r"x: expected one of .*, got 'x', which exists twice"),
        ("k.csv", "x,y, y \n1,2,3\n", r"y: expected one of .*, got 'y', which exists twice"),
        ("k.csv", "x,y\n1_000,2\n", "x: expected a finite number in line 2 of k.csv, got '1_000'"),
        ("k.csv", "x,y\n1,1e999\n", "y: expected a finite number in line 2 of k.csv, got '1e999'"),
        ("k.csv", 'x,y\n\n1,2\n"1,5",2\n', "x: expected a finite number in line 4 .* got '1,5'"),
        ("k.csv", 'x,y,z\n1,2,"a\nb"\n1,,c\n', "y: expected a finite number in line 4 .* got ''"),
        ("k.csv", "x;y\n1;2\n", r"x: expected one of \['x;y'\] .* or another delimiter than ','"),
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


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a;b\n0,5;1,5\n-1e1;2\n", {"x": "a", "y": "b", "delimiter": ";", "decimal": ","}),
        ("b\ta\n1.5\t0.5\n2\t-10\n", {"x": "a", "y": "b", "delimiter": "\t"}),
        ('b a\n"1,5" "0,5"\n2 -10\n', {"x": "a", "y": "b", "delimiter": " ", "decimal": ","}),
        ("0.5,x,1.5\n-10,y,2\n", {"x": 0, "y": 2}),
        ("1,5|0,5\n2|-10", {"x": np.int64(1), "y": 0, "delimiter": "|", "decimal": ","}),
        ('x,y,text\r\n0.5,1.5,"two\r\nlines"\r\n\r\n-10,2,"""quoted"""\r\n', {}),
        ("x,y,z,z\n0.5,1.5,a,b\n-10,2,a,b\n", {}),
    ],
)
def test_delimiters_decimal_marks_and_column_numbers_are_accepted(tmp_path, text, options):
    path = tmp_path / "a.csv"
    path.write_text(text, newline="")
    data = jxs.data.read_dataset(path, **options)
    np.testing.assert_array_equal(data.x, [0.5, -10])
    np.testing.assert_array_equal(data.y, [1.5, 2])


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("x,y\n1,2\n", {"x": 0, "y": 1}, ValueError, "x: expected a finite .* line 1 .* got 'x'"),
        ("1,2\n3\n", {"x": 0, "y": 1}, ValueError, "path: expected 2 values in line 2 .* got 1"),
        ("1,2\n3,4\n", {"x": 0, "y": 2}, ValueError, "y: expected a number below 2, got 2"),
        ("1,2\n", {"x": 0, "y": -1}, ValueError, "y: expected 0 or more, got -1"),
        ("1,2\n", {"x": 0.0, "y": 1}, TypeError, "x: expected a whole number, got 0.0"),
        ("1,2\n", {"x": 0}, TypeError, "x, y: expected two names or two numbers of columns, got 0"),
        ("", {"x": 0, "y": 1}, ValueError, "x: expected at least one sample"),
        ("x;y\n1.000;2\n", {"delimiter": ";", "decimal": ","}, ValueError, "x: .* got '1.000'"),
        ("x;y\n1,5,0;2\n", {"delimiter": ";", "decimal": ","}, ValueError, "x: .* got '1,5,0'"),
        ("x;y\n1,5;2\n", {"delimiter": ";"}, ValueError, "x: expected a finite .* got '1,5'"),
        ("x,y\n1,2\n", {"decimal": ";"}, ValueError, "decimal: expected '.' or ',', got ';'"),
        ("x,y\n", {"decimal": ",", "delimiter": ","}, ValueError, "delimiter: expected one char"),
        (
            "x,y\n",
            {
                "delimiter": ".",
            },
            ValueError,
            "delimiter: expected one character .* got '.'",
        ),
        ("x,y\n", {"delimiter": ", "}, ValueError, "delimiter: expected one character"),
        ("x,y\n", {"delimiter": '"'}, ValueError, "delimiter: expected one character"),
        ("x,y\n", {"delimiter": "e"}, ValueError, "delimiter: expected one character"),
        ("x,y\n", {"delimiter": None}, ValueError, "delimiter: expected one character"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(tmp_path, text, options, error, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(error, match=message):
        jxs.data.read_dataset(path, **{"x": "x", "y": "y"} | options)


def test_big_endian_arrays_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([1.5, -2], ">f8"), y=np.array([3, 4], ">i2"))
    data = jxs.data.read_dataset(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.x, [1.5, -2])
    np.testing.assert_array_equal(data.y, [3, 4])


def test_a_flipped_bit_in_an_npz_file_is_an_error(tmp_path):
    """In the header of a member larger than 4 KiB, it could make the array shorter."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3000.0), y=np.arange(3000.0))
    saved = path.read_bytes()
    start = saved.index(b"\x93NUMPY")
    for k in range(start, start + 128 + 20):
        for bit in range(3):
            path.write_bytes(saved[:k] + bytes([saved[k] ^ 1 << bit]) + saved[k + 1 :])
            with pytest.raises(ValueError, match=r"^path: expected an (undamaged|\.npz) file"):
                jxs.data.read_dataset(path)


def test_an_array_that_exists_twice_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones(3), y=np.ones(3))
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("y.npy", file.read("x.npy"))
    with pytest.raises(ValueError, match="y: expected one of .*, got 'y', which exists twice"):
        jxs.data.read_dataset(path)


def test_a_single_array_and_a_folder_are_not_npz_files(tmp_path):
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="got 'array.npz', a single array"):
        jxs.data.read_dataset(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="expected an existing file"):
        jxs.data.read_dataset(tmp_path)
