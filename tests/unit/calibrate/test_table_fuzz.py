"""Random and hostile measurement files: a measurement or one short error, nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mdls_cosim.calibrate import Setup, read_measurement
from mdls_cosim.calibrate.reading import KINDS
from mdls_cosim.errors import MdlsError

CASES = sorted((Path(__file__).parents[2] / "cases/circuit").glob("D*.csv"))
SEEDS = [b"\n".join(case.read_bytes().split(b"\n")[:30]) for case in CASES] + [
    b"level,conductance [uS]\n" + b"".join(b"%d,%d\n" % (row % 2, row) for row in range(20)),
    b"device;time [s];resistance [kohm]\n" + b"".join(b"1;%d;%d\n" % (row, row + 1) for row in range(20)),
    b"cycle,R_on [kohm],R_off [kohm]\n" + b"".join(b"%d,%d,%d\n" % (row, row + 1, row + 90) for row in range(20)),
    b"pulse,current [A],current [A]\n" + b"".join(b"%d,%d,%d\n" % (row, row + 1, row + 90) for row in range(20)),
    b"X_Dimension\tTime\nX_Value\tVoltage\tCurrent\n0\t1\t2\n1\t2\t3\n",
    "Zeit,s;U/V;I/µA\n0,1;2;3\n".encode("cp1252"),
]
TOKENS = [
    b"1e400", b"-1e400", b"1_000", "１２".encode(), b"nan", b"inf", b"-", b"", b'"', b"\0", b"\xff\xfe",
    b"\xef\xbb\xbf", b"#", b"//", b"[", b"]", b"(V)", b"[V]", b"[m**9**9]", b"[1/V]", b"[mdB]", b"9.91E+37",
    b"OVLD", b"time", b"voltage", b"cycle", b"level", b"device", b"target [ohm]", b"0", b"1e-400", b"1e308", b"9" *
    70, b"\t", b";", b",", b" ", b"\r", b"\n", b"\x0b", b"\x85", "\u2028".encode(), "\u22121".encode(), b"sep=;",
    b"DataName", b"DataValue", b"X_Value", b"0,5", b"1:2", b"9223372036854775808",
]  # fmt: skip
COLUMNS = [None] * 8 + [
    "voltage [V], current [A]",
    "-, voltage [V], ...",
    "...",
    ",,,",
    "",
    "-",
    "time [s], current [A]",
]


def mutated(generator: random.Random) -> bytes:
    text = bytearray(generator.choice(SEEDS))
    for _ in range(generator.randint(0, 4)):
        place, kind = generator.randrange(len(text) + 1), generator.random()
        if kind < 0.5:
            text[place : place + generator.randint(0, 6)] = generator.choice(TOKENS)
        elif kind < 0.65:
            text[place : place + 1] = bytes([generator.randrange(256)])
        elif kind < 0.8:
            del text[place : place + generator.randint(1, 100)]
        else:
            lines = bytes(text).split(b"\n")
            chosen = generator.randrange(len(lines))
            lines[chosen] = lines[chosen].replace(b",", generator.choice(TOKENS))
            text = bytearray(b"\n".join(lines))
    return bytes(text)


@pytest.mark.parametrize("part", range(4))
def test_mutated_files(tmp_path: Path, part: int) -> None:
    path = tmp_path / "table.csv"
    read, longest = 0, 0
    for number in range(500):
        generator = random.Random(10_000 * part + number)
        path.write_bytes(mutated(generator))
        setup = Setup(
            columns=generator.choice(COLUMNS),
            decimal_comma=generator.random() < 0.2,
            kind=generator.choice([None] * 5 + list(KINDS)),
            skip_missing=generator.random() < 0.3,
            current_sign=generator.choice(["keep", "keep", "reverse", "voltage"]),
            compliance=generator.choice(["auto", "none", "1 uA"]),
            frequency=generator.choice([None, None, 10.0]),
            read_voltage=generator.choice([None, 0.1, -0.1]),
        )
        try:
            read_measurement(path, setup)
        except MdlsError as error:
            longest = max(longest, len(str(error)))
        else:
            read += 1
    assert longest <= 300
    assert read > 5  # some are not harmed


@pytest.mark.parametrize(
    "text",
    [
        "1," * 450_000,
        ",".join(["voltage [V]"] * 50_000) + "\n" + ",".join(["1"] * 50_000),
        "1" * 2_000_000,
        "\n" * 2_000_000 + "1,2",
        "# voltage [V], current [A]\n" * 60_000 + "1,2\n",
        "voltage current x\n" * 60_000 + "1 2 3\n",
        '"' * 900_000,
        "(" * 100_000 + "V" + ")" * 100_000 + ",a\n1,2\n",
        ("[" * 1000 + "V\n") * 1000 + "1,2\n",
        "a/" * 400_000 + "\n1,2\n",
        "DataValue," + "1," * 400_000,
        "ramp,conductance [uS]\n" + "\n".join(f"{row},1" for row in range(60_000)),
        "level,conductance [uS]\n" + "\n".join(f"{row},1" for row in range(60_000)),
        "time [s],device,conductance [uS]\n" + "\n".join(f"1,{row},1" for row in range(60_000)),
        ",".join(["conductance [uS]"] * 4096) + "\n" + "\n" * 10 + ("1," * 4096 + "\n") * 2,
    ],
    ids=lambda text: f"{text[:12]!r} {len(text)}",
)
def test_large_files_are_bounded(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(MdlsError) as caught:
        read_measurement(path)
    assert len(str(caught.value)) <= 300


def test_many_cycles_are_read_in_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = "\n".join(f"{row // 4},{row},{row % 4 - 1.5},{row % 4 - 1.5}e-6" for row in range(80_000))
    path.write_text(f"cycle,time [s],voltage [V],current [A]\n{rows}")
    (loop,), _ = read_measurement(path)
    assert len(loop.cycles) == 20_000  # pyright: ignore[reportAttributeAccessIssue]
