"""Tables as instruments write them, and every way in which one can be wrong."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate.table_file import read_table
from mdls_cosim.errors import ConfigError, InputError, StoreError

ROWS = ((0.0, 0.1), (0.5, 2.5), (1.0, -3.0))


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_separators_byte_order_mark_and_units(tmp_path: Path, separator: str, mark: bytes) -> None:
    lines = [separator.join(("voltage [mV]", "current [uA]")), *(separator.join(map(str, row)) for row in ROWS)]
    table = read_table(written(tmp_path, mark + "\r\n".join(lines).encode()))
    np.testing.assert_allclose(table.column("voltage"), [0, 0.5e-3, 1e-3], rtol=1e-15)
    np.testing.assert_allclose(table.column("current"), [1e-7, 2.5e-6, -3e-6], rtol=1e-15)


def test_spaces_part_columns_and_headings(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "voltage [V]  applied voltage [V] current (nA)\n  0.5   1.0  2e3\n1 2 3\n"))
    assert [column.name for column in table.columns] == ["voltage", "applied voltage", "current"]
    np.testing.assert_allclose(table.column("current"), [2e-6, 3e-9])


def test_header_in_a_comment_and_comments_among_rows(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "# a device\n# voltage [V], current [A]\n1,2\n% paused\n3,4\n"))
    np.testing.assert_array_equal(table.column("voltage"), [1, 3])
    np.testing.assert_array_equal(table.lines, [3, 5])


def test_other_encodings(tmp_path: Path) -> None:
    text = "voltage [V],current [µA]\n1,2\n"
    for encoding in ("cp1252", "utf-16", "utf-8"):
        table = read_table(written(tmp_path, text.encode(encoding)))
        assert table.column("current")[0] == pytest.approx(2e-6)


def test_declared_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "1,2,3,4\n5,6,7,8\n")
    table = read_table(path, "voltage [V], -, current [mA], current [mA]")
    np.testing.assert_allclose(table.values, [[1, 3e-3, 4e-3], [5, 7e-3, 8e-3]])
    table = read_table(path, "time [s], current [A], ...")
    np.testing.assert_array_equal(table.places("current"), [1, 2, 3])
    # A header is replaced by what is declared.
    table = read_table(written(tmp_path, "rmp1,rmp2\n1,2\n"), "current [A], ...")
    assert table.values.shape == (1, 2)


def test_unknown_columns_are_told(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "voltage [V],humidity [%],current [A]\n1,2,3\n"))
    assert table.unused == ("humidity [%]",)
    assert table.values.shape == (1, 2)


def test_decimal_commas_where_they_are_declared(tmp_path: Path) -> None:
    path = written(tmp_path, "voltage [V];current [A]\n0,5;1,25e-6\n")
    np.testing.assert_allclose(read_table(path, decimal_comma=True).values, [[0.5, 1.25e-6]])
    with pytest.raises(InputError, match=r"not a number at .*line 2.*decimal comma.*--decimal-comma"):
        read_table(path)


def test_missing_numbers_name_their_line_when_used(tmp_path: Path) -> None:
    for cell in ("", "nan", "NaN"):
        table = read_table(written(tmp_path, f"voltage [V],current [A]\n1,2\n3,{cell}\n5,6\n"))
        assert table.column("voltage")[1] == 3
        with pytest.raises(InputError, match=r"no number for the current at .*line 3.*1 such rows of 3"):
            table.column("current")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", InputError, "an empty file"),
        ("  \n \n", InputError, "an empty file"),
        ("# nothing\n", InputError, "without rows"),
        ("voltage [V],current [A]\n", InputError, "a header and no rows below it"),
        ("1,2\n3,4\n", ConfigError, "without a header.*--columns"),
        ("voltage,current [A]\n1,2\n", ConfigError, r'without its unit at .*"voltage".*voltage \[V\]'),
        ("voltage [A],current [A]\n1,2\n", ConfigError, r"wrong dimension at .*voltage.*got \"A\""),
        ("voltage [V],current [furlong]\n1,2\n", ConfigError, "wrong dimension"),
        ("voltage [V],current [xyz]\n1,2\n", ConfigError, "unknown unit"),
        ("voltage [V],cycle [s]\n1,2\n", ConfigError, "a unit for a count"),
        ("a,b\n1,2\n", InputError, "no column that means anything"),
        ("voltage [V],current [A]\n1,2\n3\n", InputError, "rows of unequal length.*line 3"),
        ("voltage [V],current [A]\n0,5,1,2\n0,6,1,3\n", InputError, "header that does not fit.*decimal-comma"),
        ("voltage [V],current [A]\n1,2\n3,overload\n", InputError, r"not a number at .*line 3.*overload"),
        ("voltage [V],current [A]\n1,2\n3,inf\n", InputError, "not a number"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", StoreError, "not a text file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str | bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_table(written(tmp_path, text))


def test_wrong_declarations(tmp_path: Path) -> None:
    path = written(tmp_path, "1,2\n3,4\n")
    for columns, message in (
        ("voltage [V]", "do not fit the file"),
        ("voltage [V], current", "without its unit"),
        ("voltage [V], speed [m/s]", "an unknown column"),
        ("-, -", "no column declared"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_table(path, columns)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(StoreError, match="folder"):
        read_table(tmp_path)


def test_columns_that_are_missing_or_doubled(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "current [A],current [A]\n1,2\n"))
    with pytest.raises(InputError, match="no column for the voltage"):
        table.column("voltage")
    with pytest.raises(InputError, match="more than one column"):
        table.column("current")
    table = read_table(written(tmp_path, "cycle,current [A]\n1.5,2\n"))
    with pytest.raises(InputError, match=r"not a whole number at .*line 2: cycle"):
        table.counts("cycle")
