"""Tables in the files that instruments, LabVIEW, MATLAB, Origin and spreadsheets write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate import read_measurement
from mdls_cosim.calibrate.table_file import TableFile, read_table
from mdls_cosim.errors import ConfigError, InputError, MdlsError

CASES = Path(__file__).parents[2] / "cases/circuit"
BODY = "0,0.1,1e-6\n1,0.2,2e-6\n2,0.3,-3e-6\n"
LABVIEW = (
    "LabVIEW Measurement\t\nWriter_Version\t2\nSeparator\tTab\nDate\t2020/01/01\nTime\t10:00:00.0\n"
    "***End_of_Header***\t\n\t\nChannels\t2\t\t\nSamples\t5\t5\t\nTime\t10:00\t10:00\t\nY_Unit_Label\tVolts\tmA\t\n"
    "X_Dimension\tTime\tTime\t\nX0\t0.0E+0\t0.0E+0\t\nDelta_X\t1\t1\t\n***End_of_Header***\t\t\t\n"
    "X_Value\tVoltage\tCurrent\tComment\n0.0\t0.1\t1e-3\n1.0\t0.2\t2e-3\n2.0\t0.3\t-3e-3\n3.0\t0.1\t1e-3\n4.0\t0\t0\n"
)


def read(folder: Path, text: str, columns: str | None = None, *, decimal_comma: bool = False) -> TableFile:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return read_table(path, columns, decimal_comma)


def check(table: TableFile, rows: int = 3) -> None:
    assert len(table.values) == rows
    np.testing.assert_allclose(table.column("time")[:3], [0, 1, 2])
    np.testing.assert_allclose(table.column("voltage")[:3], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(table.column("current")[:3], [1e-6, 2e-6, -3e-6])


@pytest.mark.parametrize(
    "header",
    [
        "Time (s),Voltage (V),Current (A)",
        "# Time (s), Voltage (V), Current (A)",
        "#Time,Voltage,Current\n#s,V,A",
        "# device 7\n# compliance [A], 1e-4\n# time [s], voltage [V], current [A]\n#",
        "t/s,U/V,I/A",
        "Time [s],V[V],I (A)",
        '"Time, s","Voltage, V","Current, A"',
        "Time, s, Voltage, V, Current, A",
        "Time_s,Voltage_V,Current_A",
        "time (sec),voltage (Volts),current (Amps)",
        "Time,Voltage,Current\ns,V,A",
        "Time,Voltage,Current\n[s],[V],[A]\n,,device 7",
        "Smu-1 Time (s),Smu-1 Voltage (V),Smu-1 Current (A)",
        "Instrument: B2902A\nCompliance (A), 1e-4\nSerial,123\n\ntime [s],voltage [V],current [A]",
        "sep=,\ntime [s],voltage [V],current [A]",
        "time s,voltage V,current A",
    ],
)
def test_forms_of_headers(tmp_path: Path, header: str) -> None:
    check(read(tmp_path, f"{header}\n{BODY}"))
    blank = read(tmp_path, f"{header}\n{BODY}".replace(",", "\t").replace("sep=\t", "sep=,"))
    check(blank)


def test_a_temperature_is_no_time(tmp_path: Path) -> None:
    table = read(tmp_path, "T (K),t (s),V (V),I (A)\n300,0,1,2\n")
    assert table.unused == ("T (K)",)
    assert table.column("time")[0] == 0


def test_index_text_and_empty_columns(tmp_path: Path) -> None:
    table = read(
        tmp_path, ",time [s],voltage [V],current [A],Status,\n0,0,0.1,1e-6,C,\n1,1,0.2,2e-6,T,\n2,2,.3,-3e-6,T,\n"
    )
    check(table)
    assert table.unused == ("column 1 (no heading)", "Status", "column 6 (no heading)")
    check(read(tmp_path, "a,b,c,d\n" + BODY.replace("\n", ",ok\n"), "time [s], voltage [V], current [A], -"))


def test_what_is_skipped_is_noted(tmp_path: Path) -> None:
    table = read(
        tmp_path, f"Device 7, chip B\nOperator, me\ntime [s],voltage [V],current [A]\n{BODY}End\nSaved, by X\n"
    )
    check(table)
    assert table.notes == (
        "2 lines before the first row (line 4) are skipped",
        "2 lines of text after the last row (line 6) are skipped",
    )


def test_labview(tmp_path: Path) -> None:
    check(read(tmp_path, LABVIEW), 5)
    declared = "time [s], voltage [V], current [mA]"
    check(read(tmp_path, LABVIEW, declared), 5)
    check(read(tmp_path, LABVIEW.replace(".", ","), declared, decimal_comma=True), 5)


def test_decimal_comma_with_semicolons(tmp_path: Path) -> None:
    text = "time [s];voltage [V];current [A]\n" + BODY.replace(",", ";").replace(".", ",")
    check(read(tmp_path, text, decimal_comma=True))
    with pytest.raises(InputError, match=r"line 2: voltage: got \"0,1\".*--decimal-comma"):
        read(tmp_path, text)


@pytest.mark.parametrize("file", ["D04-b1500.csv", "D04b-b1500-body.csv"])
@pytest.mark.parametrize("columns", [None, "-, voltage [V], current [A], time [s]"])
def test_easyexpert_export(file: str, columns: str | None) -> None:
    table, clean = read_table(CASES / file, columns), read_table(CASES / "D17b-clean.csv")
    assert len(table.values) == 201
    for name in ("time", "voltage", "current"):
        np.testing.assert_allclose(table.column(name), clean.column(name), rtol=1e-6, atol=1e-12)
    notes = " ".join(table.notes)
    assert ("10 lines beside the table are skipped" in notes) == (file == "D04-b1500.csv")
    assert ("V1 as voltage [V]" in notes) == (columns is None)


def test_text_status_column() -> None:
    table = read_table(CASES / "D24-status.csv")
    assert table.unused == ("Status",)
    np.testing.assert_array_equal(table.values, read_table(CASES / "D17b-clean.csv").values)


@pytest.mark.parametrize("first", [BODY, BODY * 5])
@pytest.mark.parametrize("second", [BODY, BODY * 5, BODY * 20])
def test_a_second_table_is_refused(tmp_path: Path, first: str, second: str) -> None:
    header = "time [s],voltage [V],current [A]\n"
    with pytest.raises(InputError, match=r"text among the rows|several tables"):
        read(tmp_path, header + first + header + second)


@pytest.mark.parametrize(
    "code",
    ["+9.91E+37", "9.9E37", "-9.9E37", "3.4E38", "1e99", "1e400", "199.999E+99", "7.0E22", "OVLD", "-----", "OVRFLW",
     "OVF", "Overflow", "OL", "inf", "-Infinity", "1.#QNAN", "N/A", "#DIV/0!"],
)  # fmt: skip
def test_codes_of_instruments_are_no_numbers(tmp_path: Path, code: str) -> None:
    text = f"time [s],voltage [V],current [A]\n{BODY}3,0.4,{code}\n4,0.5,1e-6\n"
    with pytest.raises(InputError, match=r"not a number at .*line 5: current.*code for overflow.*--skip-missing"):
        read(tmp_path, text)
    path = tmp_path / "table.csv"
    table = read_table(path, strict=False).complete(("time", "voltage", "current"))
    check(table, 4)
    assert table.lines.tolist() == [2, 3, 4, 6]
    assert any("1 of 5 rows without a number left out (first: line 5)" in note for note in table.notes)


def test_the_reading_without_a_number_is_refused_with_its_line() -> None:
    with pytest.raises(InputError, match=r"D17-overflow\.csv, line 79: current: got \"\+9\.910000E\+37\""):
        read_table(CASES / "D17-overflow.csv")


@pytest.mark.parametrize("text", ["1_000", "１２", "0x10", "1d-5", "TRUE", "1e5 A", "1.2.3", "12:00", "٣"])
def test_text_that_only_looks_like_a_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="not a number"):
        read(tmp_path, f"voltage [V];current [A]\n1;2\n3;{text}\n")


def test_typographic_minus_in_number_and_exponent(tmp_path: Path) -> None:
    table = read(tmp_path, "voltage [V];current [A]\n1;2\n\u22123e\u22122;4E\u22127\n")
    np.testing.assert_allclose(table.values, [[1, 2], [-3e-2, 4e-7]])


def test_the_columns_of_a_source_meter(tmp_path: Path) -> None:
    header = "Index,Voltage (V),Current (A),Timestamp (s),Status\n"
    table = read(tmp_path, f"Model 2400\n\n{header}0,0.1,1e-6,0.5,8\n1,0.2,2e-6,1.5,8\n")
    assert [column.name for column in table.columns] == ["voltage", "current", "time"]
    np.testing.assert_allclose(table.column("time"), [0.5, 1.5])


@pytest.mark.parametrize("text", ["Time (s),AnodeV (V),AnodeI (A)", "voltage [V],Clock (s),AnodeI (A)"])
def test_headings_that_are_not_recognized_are_in_the_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(f"{text}\n0,1,2\n1,2,3\n2,1,1\n")
    with pytest.raises(InputError, match=r'Not recognized: .*"AnodeI \(A\)"'):
        read_measurement(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("heading", "unit"),
    [("target [kohm]", 1 / 25e3), ("target resistance (kΩ)", 1 / 25e3), ("target [uS]", 25e-6), ("G_target_uS", 25e-6)],
)
def test_targets_as_resistances(tmp_path: Path, heading: str, unit: float) -> None:
    assert read(tmp_path, f"{heading},conductance [uS]\n25,1\n").column("target")[0] == pytest.approx(unit)


def test_a_target_of_no_ohms(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="target of 0 kohm"):
        read(tmp_path, "target [kohm],conductance [uS]\n0,1\n")


@pytest.mark.parametrize(
    ("unit", "factor"), [("MOhm", 1e6), ("Mohm", 1e6), ("mOhm", 1e-3), ("KOhm", 1e3), ("Ohms", 1), ("GΩ", 1e9)]
)
def test_spellings_of_ohms(tmp_path: Path, unit: str, factor: float) -> None:
    assert read(tmp_path, f"Resistance ({unit}),x\n2,3\n").column("resistance")[0] == pytest.approx(2 * factor)


def test_messages_are_short(tmp_path: Path) -> None:
    wide = ",".join(f"some_long_heading_of_a_column_{place}" for place in range(300))
    for text in (f"{wide}\n{','.join(['1'] * 300)}\n", f"{'x' * 5000} [V],b\n1,2\n", f"{'y' * 90000}\n1\n"):
        with pytest.raises(MdlsError) as caught:
            read(tmp_path, text)
        assert len(str(caught.value)) <= 300


def test_wrong_unit_of_a_declared_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wrong dimension.*got \"V\""):
        read(tmp_path, "Time/s,Current/V\n1,2\n")
