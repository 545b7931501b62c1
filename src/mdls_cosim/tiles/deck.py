"""The deck of a tile: its circuit as SPICE text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdls_cosim.errors import InputError
from mdls_cosim.spice import Deck, format_number
from mdls_cosim.tiles.spec import TileSpec


def row_net(spec: TileSpec, row: int, col: int) -> str:
    """Net of row line `row` at column `col`; one net for the whole line where its wire is ideal."""
    return f"row{row}_col{col}" if spec.row_line_resistance else f"row{row}"


def column_net(spec: TileSpec, row: int, col: int) -> str:
    """Net of column line `col` at row `row`; one net for the whole line where its wire is ideal."""
    return f"col{col}_row{row}" if spec.column_line_resistance else f"col{col}"


def tile_deck(spec: TileSpec, conductances: NDArray[np.float64]) -> Deck:
    """The circuit of a tile programmed to `conductances` (rows, cols) [S].

    Sources `Vrow0 …` drive the rows and are set per read; probes `i(vcol0) …` are the column currents, positive
    into the virtual ground. A zero resistance merges nets: the deck holds no resistor for it.

    Raises:
        InputError: conductances of the wrong shape, negative or not finite.
    """
    conductances = np.asarray(conductances, dtype=np.float64)
    if conductances.shape != (spec.rows, spec.cols):
        raise InputError(
            "conductances have the wrong shape", value=conductances.shape, limit=f"({spec.rows}, {spec.cols})"
        )
    bad = np.argwhere(~(np.isfinite(conductances) & (conductances >= 0)))
    if len(bad):
        row, col = bad[0]
        raise InputError(
            f"{len(bad)} conductances are negative or not finite",
            where=f"row {row}, column {col}",
            value=f"{conductances[row, col]} S",
            limit="0 S or more, finite",
        )
    elements: list[str] = []
    states = spec.cell.state_for(conductances, spec.reference_voltage)
    for row in range(spec.rows):
        line_start = row_net(spec, row, 0)
        if spec.driver_resistance:
            elements.append(f"Vrow{row} row{row}_driver 0 0")
            elements.append(f"Rdriver{row} row{row}_driver {line_start} {format_number(spec.driver_resistance)}")
        else:
            elements.append(f"Vrow{row} {line_start} 0 0")
        for col in range(spec.cols):
            parameters = " ".join(
                f"{name}={format_number(value)}"
                for name, value in sorted(spec.cell.spice_parameters(float(states[row, col])).items())
            )
            elements.append(
                f"Xcell{row}_{col} {row_net(spec, row, col)} {column_net(spec, row, col)} "
                f"{spec.cell.spice_model} {parameters}"
            )
            if spec.row_line_resistance and col + 1 < spec.cols:
                elements.append(
                    f"Rrow{row}_{col} {row_net(spec, row, col)} {row_net(spec, row, col + 1)} "
                    f"{format_number(spec.row_line_resistance)}"
                )
            if spec.column_line_resistance and row + 1 < spec.rows:
                elements.append(
                    f"Rcol{col}_{row} {column_net(spec, row, col)} {column_net(spec, row + 1, col)} "
                    f"{format_number(spec.column_line_resistance)}"
                )
    for col in range(spec.cols):
        line_end = column_net(spec, spec.rows - 1, col)
        if spec.sense_resistance:
            elements.append(f"Rsense{col} {line_end} col{col}_sense {format_number(spec.sense_resistance)}")
            elements.append(f"Vcol{col} col{col}_sense 0 0")
        else:
            elements.append(f"Vcol{col} {line_end} 0 0")
    sources = tuple(f"Vrow{row}" for row in range(spec.rows))
    probes = tuple(f"i(vcol{col})" for col in range(spec.cols))
    return Deck(
        title=f"tile {spec.rows}x{spec.cols} {spec.cell.spice_model}",
        elements=tuple(elements),
        models=(spec.cell.spice_model,),
        sources=sources,
        probes=probes,
        balance=tuple(f"i({name.lower()})" for name in sources) + probes,
        temperature=spec.temperature,
    )
