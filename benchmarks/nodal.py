"""The nodal solver against sparse LU, sparse Newton and badcrossbar, side by side in one run.

    python benchmarks/nodal.py [--quick] [--json] [--save FILE.npz] [--torch-device cuda]

Sparse LU: scipy's splu with the best of its column orderings, one factorisation, all right-hand sides in one call.
Sparse Newton: one splu an iteration, to the same residual. Both get the assembled matrix for free: only factorisation
and solves are timed for LU, and for Newton the update of the matrix's values besides. badcrossbar (pip install
--no-deps badcrossbar pathvalidate; left out where it is missing) is timed as it is called, for all unit inputs at once;
its lines begin and end with one more segment of wire, which is our driver and our sense resistance.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sparse
import torch
from scipy.sparse.linalg import splu

from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.tiles import TileSpec

with warnings.catch_warnings(record=True):  # it tells that it cannot plot, and lets no filter stop it
    try:
        import badcrossbar  # pyright: ignore[reportMissingImports]
    except ImportError:
        badcrossbar = None
    else:
        logging.getLogger("badcrossbar").setLevel(logging.WARNING)

ORDERINGS = ("COLAMD", "MMD_AT_PLUS_A", "MMD_ATA", "NATURAL")
ENDS = 10.0
NONLINEARITY = 10.0
AMPLITUDE = 0.2
BATCH = 128
TOLERANCE = 1e-10


class Circuit:
    """The nodal equations of a tile as a sparse matrix: row-line nodes first, then column-line nodes."""

    def __init__(self, size: int, wire: float) -> None:
        self.size, self.nodes = size, 2 * size * size
        index = np.arange(size * size).reshape(size, size)
        self.rows, self.cols = index.ravel(), index.ravel() + size * size
        pairs = [(index[:, :-1], index[:, 1:]), (index[:-1] + size * size, index[1:] + size * size)]
        first = np.concatenate([a.ravel() for a, _ in pairs])
        second = np.concatenate([b.ravel() for _, b in pairs])
        self.driven, self.sensed = index[:, 0], index[-1] + size * size
        ends = np.concatenate([self.driven, self.sensed])
        self.wires = _laplacian(self.nodes, first, second, np.full(len(first), 1 / wire)) + sparse.csc_matrix(
            (np.full(len(ends), 1 / ENDS), (ends, ends)), (self.nodes, self.nodes)
        )

    def matrix(self, conductances: np.ndarray) -> sparse.csc_matrix:
        return (self.wires + _laplacian(self.nodes, self.rows, self.cols, conductances.ravel())).tocsc()

    def drive(self, voltages: np.ndarray) -> np.ndarray:
        """Right-hand sides (nodes, inputs) of voltages (inputs, rows)."""
        right = np.zeros((self.nodes, len(voltages)))
        right[self.driven] = voltages.T / ENDS
        return right

    def currents(self, solved: np.ndarray) -> np.ndarray:
        return solved[self.sensed].T / ENDS


def _laplacian(nodes: int, first: np.ndarray, second: np.ndarray, values: np.ndarray) -> sparse.csc_matrix:
    rows = np.concatenate([first, second, first, second])
    cols = np.concatenate([first, second, second, first])
    return sparse.csc_matrix((np.concatenate([values, values, -values, -values]), (rows, cols)), (nodes, nodes))


def sparse_newton(circuit: Circuit, conductances: np.ndarray, voltages: np.ndarray) -> tuple[np.ndarray, float]:
    """Column currents and the worst residual of Kirchhoff's law, relative to the largest cell current."""
    currents, worst, residual = [], 0.0, 0.0
    flat = conductances.ravel()
    for drive in circuit.drive(voltages).T:
        solved = splu(circuit.matrix(conductances), permc_spec="MMD_AT_PLUS_A").solve(drive)
        for _ in range(50):
            across = solved[circuit.rows] - solved[circuit.cols]
            cells = flat * np.sinh(NONLINEARITY * across) / NONLINEARITY
            mismatch = circuit.wires @ solved - drive
            mismatch[circuit.rows] += cells
            mismatch[circuit.cols] -= cells
            residual = np.abs(mismatch).max() / np.abs(cells).max()
            if residual <= TOLERANCE:
                break
            slopes = (flat * np.cosh(NONLINEARITY * across)).reshape(conductances.shape)
            solved = solved - splu(circuit.matrix(slopes), permc_spec="MMD_AT_PLUS_A").solve(mismatch)
        worst = max(worst, residual)
        currents.append(circuit.currents(solved))
    return np.array(currents), worst


def best_time(run: Callable[[], Any], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        wait_for_device()
        began = time.perf_counter()
        run()
        wait_for_device()
        times.append(time.perf_counter() - began)
    return min(times)


def wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _read(model: NodalTile, conductances: torch.Tensor, voltages: torch.Tensor) -> torch.Tensor:
    return model.program(conductances)(voltages)


def kirchhoff_residual(spec: TileSpec, conductances: torch.Tensor, voltages: torch.Tensor, wire: float) -> float:
    """Of NodalTile's own answer, in the sparse circuit: it knows nothing of the elimination."""
    cell = NodalTile(spec, TOLERANCE).program(conductances).cell_voltages(voltages).numpy()
    currents = conductances.numpy() * np.sinh(NONLINEARITY * cell) / NONLINEARITY
    circuit = Circuit(spec.rows, wire)
    worst = 0.0
    for drive, across, cells in zip(circuit.drive(voltages.numpy()).T, cell, currents, strict=True):
        # Wires carry the cell currents: their node voltages follow from a linear solve without any cell.
        right = drive.copy()
        right[circuit.rows] -= cells.ravel()
        right[circuit.cols] += cells.ravel()
        solved = splu(circuit.wires.tocsc()).solve(right)
        again = solved[circuit.rows] - solved[circuit.cols]
        implied = conductances.numpy().ravel() * np.sinh(NONLINEARITY * again) / NONLINEARITY
        worst = max(worst, float(np.abs(implied - cells.ravel()).max() / np.abs(cells).max()))
        assert np.isfinite(across).all()
    return worst


def program(
    generator: np.random.Generator, repeats: int, quick: bool, saved: dict[str, np.ndarray], device: str
) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """Speed-up of programming ohmic tiles over sparse LU by size, tiles a second, and errors relative to the largest
    W. An accelerator takes many more tiles at once."""
    speedup, rates, errors = {}, {}, []
    print(f"{'program, ohmic, a tile':<24}{'nodal':>12}{'float32':>12}{'sparse LU':>12}{'ratio':>8}{'error':>10}")
    for size, tiles in ((64, 16), (128, 16), (256, 4)) if device == "cpu" else ((64, 1024), (128, 256), (256, 64)):
        conductances = generator.uniform(1e-6, 1e-4, (tiles, size, size))
        spec = TileSpec(
            rows=size,
            cols=size,
            cell=Ohmic(),
            row_line_resistance=1.0,
            column_line_resistance=1.0,
            driver_resistance=ENDS,
            sense_resistance=ENDS,
        )
        circuit, tensor = Circuit(size, 1.0), torch.as_tensor(conductances).to(device)
        double, single = NodalTile(spec), NodalTile(spec, precision="float32")
        matrix, drive = circuit.matrix(conductances[0]), circuit.drive(np.eye(size))

        def lu(ordering: str, matrix: Any = matrix, drive: Any = drive) -> np.ndarray:
            return splu(matrix, permc_spec=ordering).solve(drive)

        # The other two orderings never win, and take minutes on a large matrix.
        orderings = ORDERINGS[: 2 if quick or size > 128 else 4]
        ordering = min(orderings, key=lambda name, lu=lu: best_time(partial(lu, name), 1))
        runs = (partial(double.program, tensor), partial(single.program, tensor), partial(lu, ordering))
        # In turn, so that all see the same machine; each often enough for the second thread, which SuperLU leaves idle,
        # to be back at work: that takes some tenth of a second.
        times = np.array([[best_time(run, 5) for run in runs] for _ in range(repeats if size <= 128 else 2)])
        times /= (tiles, tiles, 1)
        mine, short, theirs = np.median(times, 0)
        ratio = float(np.median(times[:, 2] / times[:, 0]))
        exact = circuit.currents(lu(ordering))
        found = double.program(tensor).effective_conductances.cpu().numpy()
        errors.append(float(np.abs(found[0] - exact).max() / exact.max()))
        speedup[str(size)], rates[str(size)] = round(ratio, 2), round(1 / mine, 1)
        saved[f"conductances_{size}"], saved[f"effective_{size}"] = conductances, found
        print(
            f"{f'{size}x{size} ({ordering})':<24}{1e3 * mine:>9.1f} ms{1e3 * short:>9.1f} ms{1e3 * theirs:>9.1f} ms"
            f"{ratio:>8.1f}{errors[-1]:>10.1e}"
        )
    return speedup, rates, errors


def beside_badcrossbar(
    generator: np.random.Generator, repeats: int, saved: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Time of a tile's unit responses, and the largest difference of the currents relative to the largest, by size."""
    print(f"\n{'unit responses, a tile':<24}{'nodal':>12}{'badcrossbar':>12}{'ratio':>8}{'apart':>10}")
    compute = getattr(badcrossbar, "compute", None)
    if compute is None:
        print("badcrossbar or its pathvalidate is not installed: left out")
        return {}
    found = {}
    for size in (64, 128):
        conductances = generator.uniform(1e-6, 1e-4, (size, size))
        names = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
        model = NodalTile(TileSpec(rows=size, cols=size, **dict.fromkeys(names, 1.0)))
        tensor, unit = torch.as_tensor(conductances), torch.eye(size, dtype=torch.float64)

        def theirs(conductances: np.ndarray = conductances) -> np.ndarray:
            how = {"node_voltages": False, "all_currents": False}
            return compute(np.eye(len(conductances)), 1 / conductances, 1.0, **how).currents.output

        runs = (partial(_read, model, tensor, unit), theirs)
        times = np.array([[best_time(run, 3) for run in runs] for _ in range(repeats)])
        mine, other = np.median(times, 0)
        ratio = float(np.median(times[:, 1] / times[:, 0]))
        currents = _read(model, tensor, unit).numpy()
        apart = float(np.abs(currents - theirs()).max() / np.abs(currents).max())
        found[str(size)] = {"ratio": round(ratio, 1), "difference": apart}
        saved[f"badcrossbar_conductances_{size}"], saved[f"badcrossbar_currents_{size}"] = conductances, theirs()
        print(f"{f'{size}x{size}':<24}{1e3 * mine:>9.1f} ms{1e3 * other:>9.0f} ms{ratio:>8.1f}{apart:>10.1e}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and inputs")
    parser.add_argument("--save", metavar="FILE.npz", help="inputs and predictions behind the figures")
    parser.add_argument("--torch-device", default="cpu", help="where NodalTile computes; the others stay on the CPU")
    options = parser.parse_args()
    device = options.torch_device
    repeats, inputs = (2, 2) if options.quick else (5, 16)
    generator = np.random.default_rng(0)
    saved: dict[str, np.ndarray] = {}
    errors, newton, residuals = [], {}, []
    print(
        torch.cuda.get_device_name(device) if device.startswith("cuda") else f"torch threads: {torch.get_num_threads()}"
    )
    speedup, rates, program_errors = program(generator, repeats, options.quick, saved, device)
    errors += program_errors
    badcrossbar_found = beside_badcrossbar(np.random.default_rng(1), repeats, saved)
    print(f"\n{f'read, sinh {NONLINEARITY:g} /V, 64x64':<24}{'nodal':>12}{'Newton':>12}{'ratio':>8}{'residual':>10}")
    for wire in (1.0, 50.0, 500.0):
        conductances = generator.uniform(1e-6, 1e-4, (64, 64))
        voltages = generator.uniform(-AMPLITUDE, AMPLITUDE, (BATCH, 64))
        spec = TileSpec(
            rows=64,
            cols=64,
            cell=Sinh(nonlinearity=NONLINEARITY),
            row_line_resistance=wire,
            column_line_resistance=wire,
            driver_resistance=ENDS,
            sense_resistance=ENDS,
        )
        circuit, model = Circuit(64, wire), NodalTile(spec, TOLERANCE)
        tensor, driven = torch.as_tensor(conductances).to(device), torch.as_tensor(voltages).to(device)
        mine, theirs = [], []
        for _ in range(repeats):  # in turn, so that both see the same machine
            mine.append(best_time(partial(_read, model, tensor, driven), 5) / BATCH)
            theirs.append(best_time(partial(sparse_newton, circuit, conductances, voltages[:2]), 2) / 2)
        ratio = float(np.median(np.array(theirs) / np.array(mine)))
        exact, _ = sparse_newton(circuit, conductances, voltages[:inputs])
        found = model.program(tensor)(driven).cpu().numpy()
        errors.append(float(np.abs(found[:inputs] - exact).max() / np.abs(exact).max()))
        residuals.append(kirchhoff_residual(spec, tensor.cpu(), driven[:inputs].cpu(), wire))
        newton[f"64_{wire:g}ohm"] = round(ratio, 1)
        saved[f"voltages_{wire:g}ohm"], saved[f"currents_{wire:g}ohm"] = voltages, found
        print(
            f"{f'{wire:g} ohm wires':<24}{1e3 * min(mine):>9.2f} ms{1e3 * min(theirs):>9.1f} ms{ratio:>8.1f}"
            f"{residuals[-1]:>10.1e}"
        )
    if options.save:
        np.savez_compressed(options.save, **saved)  # pyright: ignore[reportArgumentType]
    if options.json:
        print(
            json.dumps(
                {
                    "program_speedup_over_sparse_lu": speedup,
                    "programmed_tiles_per_second": rates,
                    "max_relative_error": max(errors),
                    "newton_speedup_over_sparse_newton": newton,
                    "newton_worst_residual": max(residuals),
                    "badcrossbar": badcrossbar_found,
                }
            )
        )


if __name__ == "__main__":
    main()
