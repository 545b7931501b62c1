"""2x3 tiles worked by hand: every sign, end and axis of the conventions is pinned, with all four resistances at work.

Resistances: driver 100 ohm, row line 10 ohm, column line 20 ohm, sense 50 ohm.

Worked backwards: choose the six cell currents and the two row voltages, follow Ohm's law along the lines, and read off
which conductances make it so.

                 column 0   column 1   column 2     driver (sum of the row)
    row 0  [mA]    0.1        0.2        0.3           0.6
    row 1  [mA]    0.4        0.1        0.3           0.8
    sense (sum)    0.5        0.3        0.6

Column lines end below the last row (row 1) in 50 ohm, and the 20 ohm segment above it carries row 0's current alone:
    v_1j = 50 * sense_j               = 25 mV, 15 mV, 30 mV
    v_0j = v_1j + 20 * I_0j           = 25 + 2 = 27 mV,  15 + 4 = 19 mV,  30 + 6 = 36 mV
Row lines begin at column 0 behind 100 ohm; the 10 ohm segment to column 1 carries columns 1 and 2, the next column 2:
    row 0, 1.0 V:  u_00 = 1.0 - 100 * 0.6 mA = 0.940,  u_01 = 0.940 - 10 * 0.5 mA = 0.935,  u_02 = 0.935 - 0.003 = 0.932
    row 1, 0.6 V:  u_10 = 0.6 - 100 * 0.8 mA = 0.520,  u_11 = 0.520 - 10 * 0.4 mA = 0.516,  u_12 = 0.516 - 0.003 = 0.513
Cell voltages u - v:
    row 0:  0.940 - 0.027 = 0.913,  0.935 - 0.019 = 0.916,  0.932 - 0.036 = 0.896
    row 1:  0.520 - 0.025 = 0.495,  0.516 - 0.015 = 0.501,  0.513 - 0.030 = 0.483
Conductances: G_ij = I_ij / (u - v) of ohmic cells, G_ij = a I_ij / sinh(a (u - v)) of sinh cells.
Power from the sources: 1.0 V * 0.6 mA + 0.6 V * 0.8 mA = 1.08 mW.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.tiles import TileSpec

CELL_CURRENTS = np.array([[0.1e-3, 0.2e-3, 0.3e-3], [0.4e-3, 0.1e-3, 0.3e-3]])
CELL_VOLTAGES = np.array([[0.913, 0.916, 0.896], [0.495, 0.501, 0.483]])
ROW_VOLTAGES = torch.tensor([[1.0, 0.6]], dtype=torch.float64)
COLUMN_CURRENTS = [[0.5e-3, 0.3e-3, 0.6e-3]]
POWER = [1.08e-3]
RESISTANCES = {
    "row_line_resistance": 10.0,
    "column_line_resistance": 20.0,
    "driver_resistance": 100.0,
    "sense_resistance": 50.0,
}
CASES = {
    "ohmic": (Ohmic(), CELL_CURRENTS / CELL_VOLTAGES),
    "sinh": (Sinh(nonlinearity=2.0), 2.0 * CELL_CURRENTS / np.sinh(2.0 * CELL_VOLTAGES)),
}


def spec_of(cell) -> TileSpec:
    return TileSpec(rows=2, cols=3, cell=cell, **RESISTANCES)


@pytest.mark.parametrize("case", CASES)
def test_nodal_tile(case: str):
    cell, conductances = CASES[case]
    programmed = NodalTile(spec_of(cell), tolerance=1e-13).program(torch.tensor(conductances))
    np.testing.assert_allclose(programmed(ROW_VOLTAGES), COLUMN_CURRENTS, rtol=1e-12)
    np.testing.assert_allclose(programmed.cell_voltages(ROW_VOLTAGES)[0], CELL_VOLTAGES, rtol=1e-12)
    np.testing.assert_allclose(programmed.power(ROW_VOLTAGES), POWER, rtol=1e-12)


@pytest.mark.ngspice
@pytest.mark.parametrize("case", CASES)
def test_spice_tile(case: str, engine):
    cell, conductances = CASES[case]
    currents = SpiceTile(spec_of(cell), engine).program(torch.tensor(conductances))(ROW_VOLTAGES)
    np.testing.assert_allclose(currents, COLUMN_CURRENTS, rtol=1e-9)


def exact_solution(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Gauss-Jordan elimination in exact fractions."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for pivot in range(len(rows)):
        chosen = next(index for index in range(pivot, len(rows)) if rows[index][pivot])
        rows[pivot], rows[chosen] = rows[chosen], rows[pivot]
        rows[pivot] = [value / rows[pivot][pivot] for value in rows[pivot]]
        for index, row in enumerate(rows):
            if index != pivot and row[pivot]:
                rows[index] = [value - row[pivot] * lead for value, lead in zip(row, rows[pivot], strict=True)]
    return [row[-1] for row in rows]


def exact_column_currents(g: list[list[Fraction]], source: tuple[Fraction, Fraction]) -> list[Fraction]:
    """Kirchhoff's current law at the twelve nodes, written out; conductances of the wires in siemens.

    Driver 1/100, row line 1/10, column line 1/20, sense 1/50.
    Unknowns, in the order of the columns: u00 u01 u02 u10 u11 u12 v00 v01 v02 v10 v11 v12.
    """
    d, w, c, t = Fraction(1, 100), Fraction(1, 10), Fraction(1, 20), Fraction(1, 50)
    (g00, g01, g02), (g10, g11, g12) = g
    matrix = [
        [d + w + g00, -w, 0, 0, 0, 0, -g00, 0, 0, 0, 0, 0],
        [-w, 2 * w + g01, -w, 0, 0, 0, 0, -g01, 0, 0, 0, 0],
        [0, -w, w + g02, 0, 0, 0, 0, 0, -g02, 0, 0, 0],
        [0, 0, 0, d + w + g10, -w, 0, 0, 0, 0, -g10, 0, 0],
        [0, 0, 0, -w, 2 * w + g11, -w, 0, 0, 0, 0, -g11, 0],
        [0, 0, 0, 0, -w, w + g12, 0, 0, 0, 0, 0, -g12],
        [-g00, 0, 0, 0, 0, 0, g00 + c, 0, 0, -c, 0, 0],
        [0, -g01, 0, 0, 0, 0, 0, g01 + c, 0, 0, -c, 0],
        [0, 0, -g02, 0, 0, 0, 0, 0, g02 + c, 0, 0, -c],
        [0, 0, 0, -g10, 0, 0, -c, 0, 0, g10 + c + t, 0, 0],
        [0, 0, 0, 0, -g11, 0, 0, -c, 0, 0, g11 + c + t, 0],
        [0, 0, 0, 0, 0, -g12, 0, 0, -c, 0, 0, g12 + c + t],
    ]
    right = [d * source[0], 0, 0, d * source[1], 0, 0, 0, 0, 0, 0, 0, 0]
    nodes = exact_solution([[Fraction(x) for x in row] for row in matrix], [Fraction(x) for x in right])
    return [t * nodes[9], t * nodes[10], t * nodes[11]]


def test_effective_conductances_in_exact_fractions():
    # Conductances in which no two agree and one cell is open: 1/10k, 1/5k, open; 1/2k, 1/20k, 1/1k siemens.
    g = [
        [Fraction(1, 10_000), Fraction(1, 5_000), Fraction(0)],
        [Fraction(1, 2_000), Fraction(1, 20_000), Fraction(1, 1_000)],
    ]
    expected = [
        [float(current) for current in exact_column_currents(g, source)]
        for source in ((Fraction(1), Fraction(0)), (Fraction(0), Fraction(1)))
    ]
    conductances = torch.tensor([[float(value) for value in row] for row in g], dtype=torch.float64)
    effective = NodalTile(spec_of(Ohmic())).program(conductances).effective_conductances
    np.testing.assert_allclose(effective, expected, rtol=1e-13)
    # Sneak current: row 0 reaches column 2 although their cell is open.
    assert expected[0][2] > 0


def test_the_exact_equations_agree_with_the_worked_currents():
    # The two derivations of this file must agree with each other: the conductances of the worked case are rational.
    voltages = [["0.913", "0.916", "0.896"], ["0.495", "0.501", "0.483"]]
    currents = [["0.0001", "0.0002", "0.0003"], ["0.0004", "0.0001", "0.0003"]]
    g = [
        [Fraction(i) / Fraction(v) for i, v in zip(*rows, strict=True)] for rows in zip(currents, voltages, strict=True)
    ]
    assert exact_column_currents(g, (Fraction(1), Fraction(3, 5))) == [
        Fraction(1, 2000),
        Fraction(3, 10_000),
        Fraction(3, 5000),
    ]
