"""The wires of a tile alone, and the response of linearised cells: against resistances written down path by path."""

import numpy as np
import pytest
import torch

from mdls_cosim.fidelity.elimination import Wires
from mdls_cosim.fidelity.krylov import Room, largest, make_up, make_up_exactly
from mdls_cosim.fidelity.line_modes import Bare, Lines, Modes

WIRES = Wires(row_line=3.0, column_line=5.0, driver=12.0, sense=7.0)
ZEROS = pytest.mark.parametrize("zero", [(), ("row_line", "driver"), ("column_line", "sense"), ("driver", "sense")])


def wires_without(zero) -> Wires:
    return Wires(**{**vars(WIRES), **dict.fromkeys(zero, 0.0)})


def shared_paths(wires: Wires, rows: int, cols: int) -> np.ndarray:
    """R: the resistance that the currents of two cells share on their ways from driver and to sense node."""

    def path(row: int, col: int) -> dict[object, float]:
        resistors = {("driver", row): wires.driver, ("sense", col): wires.sense}
        resistors |= {("row", row, place): wires.row_line for place in range(col)}
        return resistors | {("column", col, place): wires.column_line for place in range(row, rows - 1)}

    paths = [path(row, col) for row in range(rows) for col in range(cols)]
    return np.array([[sum(one[name] for name in one.keys() & other.keys()) for other in paths] for one in paths])


def flat(values: torch.Tensor) -> np.ndarray:
    """(1, rows, inputs, cols) as (cells, inputs)."""
    return values[0].movedim(1, 2).flatten(0, 1).double().numpy()


def draw(*shape: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


@ZEROS
@pytest.mark.parametrize("shape", [(4, 6), (5, 2), (1, 3)], ids=str)
def test_drops_along_the_lines(shape, zero):
    rows, cols = shape
    wires = wires_without(zero)
    currents = draw(1, rows, 3, cols)
    found = Lines.of(wires, rows, cols, currents).drops(currents)
    expected = shared_paths(wires, rows, cols) @ flat(currents)
    np.testing.assert_allclose(flat(found), expected, rtol=1e-13, atol=1e-13)


@ZEROS
def test_voltages_are_what_the_drops_leave(zero):
    lines = Lines.of(wires_without(zero), 4, 6, draw(1))
    currents, driven = draw(2, 4, 3, 6), draw(2, 4, 3, 1)
    torch.testing.assert_close(lines.voltages(driven, currents), driven - lines.drops(currents))


@ZEROS
def test_without_cells_the_response_is_the_drop(zero):
    lines = Lines.of(wires_without(zero), 4, 6, draw(1))
    currents = draw(2, 4, 3, 6).float()
    response, *room = torch.empty(3, *currents.shape)
    found = Bare(lines.single).respond(currents, response, room)
    torch.testing.assert_close(found, lines.drops(currents.double()).float(), rtol=1e-5, atol=1e-5)


@ZEROS
def test_what_cells_feel_bounds_what_they_feel(zero):
    """Of uniform cells it is the largest eigenvalue of R g, of others no less than half of it."""
    wires, resistances = wires_without(zero), shared_paths(wires_without(zero), 5, 6)
    lines = Lines.of(wires, 5, 6, draw(1))
    for conductances in (torch.full((1, 5, 6), 1e-3).double(), draw(1, 5, 6, low=1e-5, high=1e-3)):
        root = np.diag(conductances.flatten().sqrt().numpy())
        exact = np.linalg.eigvalsh(root @ resistances @ root)[-1]
        assert 0.5 * exact <= lines.felt(conductances) <= 2 * exact + 1e-12


@ZEROS
def test_cells_of_added_resistances_are_solved_by_their_modes(zero):
    # g = 1/(alpha + beta) is what `Modes` makes of these line means, up to its own choice of alpha and beta.
    wires = wires_without(zero)
    lines = Lines.of(wires, 5, 6, draw(1))
    modes = Modes.of(lines, draw(1, 5, 6, low=1e-4, high=1e-2))
    currents = draw(1, 5, 3, 6).float()
    response, *room = torch.empty(3, *currents.shape)
    modes.respond(currents, response, room)
    conductances = np.diag(flat(modes.conductances)[:, 0])
    resistances = shared_paths(wires, 5, 6)
    expected = np.linalg.solve(np.eye(30) + resistances @ conductances, resistances @ flat(currents))
    # Single precision of the cells' resistance.
    scale = float(modes.resistances.max())
    np.testing.assert_allclose(flat(response), expected, rtol=0, atol=2e-6 * scale)


@ZEROS
def test_response_of_cells_with_slopes_of_their_own(zero):
    wires = wires_without(zero)
    resistances = shared_paths(wires, 5, 6)
    lines = Lines.of(wires, 5, 6, draw(1))
    slopes = 10 ** draw(1, 5, 3, 6, low=-4.0, high=-2.0)
    slopes[0, 2, 1, :] = 0.0
    mismatch = draw(1, 5, 3, 6)
    exact = np.stack(
        [
            np.linalg.solve(np.eye(30) + np.diag(own) @ resistances, left)
            for own, left in zip(flat(slopes).T, flat(mismatch).T, strict=True)
        ],
        1,
    )
    for alike in (Modes.of(lines, slopes.mean(2)), Bare(lines.single)):
        for reduction in (1e-2, 1e-5):
            roughly = make_up(alike, slopes.float(), mismatch, largest(mismatch), reduction)
            atol = max(5 * reduction, 1e-5) * np.abs(exact).max()
            np.testing.assert_allclose(flat(roughly), exact, rtol=0, atol=atol)
        found, left = make_up_exactly(lines, alike, slopes, mismatch)
        np.testing.assert_allclose(flat(found), exact, rtol=0, atol=1e-12 * np.abs(exact).max())
        assert float(left.max()) < 1e-12


def test_mismatches_of_any_size_are_made_up_for_alike():
    lines = Lines.of(WIRES, 5, 6, draw(1))
    slopes, mismatch = draw(1, 5, 1, 6, low=1e-4, high=1e-2).float(), draw(1, 5, 1, 6)
    alike, room = Modes.of(lines, slopes.mean(2)), Room()
    whole = make_up(alike, slopes, mismatch, largest(mismatch), 1e-4, room=room).clone()
    tiny = make_up(alike, slopes, 1e-25 * mismatch, 1e-25 * largest(mismatch), 1e-4, room=room)
    torch.testing.assert_close(1e25 * tiny, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))
    nothing = make_up(alike, slopes, 0 * mismatch, 0 * largest(mismatch), 1e-4, room=room)
    assert not nothing.any()
