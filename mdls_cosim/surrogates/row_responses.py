"""Tiles of steep cells: every row alone, solved exactly over its range of voltages, and one mode of the column lines.

A column line whose cell (i, j) takes the current i_ij rises at row i by sum of K_ik i_kj, K_ik being the resistance
below the lower of the two rows. K is nearly a product and a diagonal, K_ik = a_i a_k + d_i delta_ik. With J_ij(v) the
current of cell (i, j) when row i is driven by v behind its own line, each of its cells in series with d_i,

    I_j = sum of J_ij(V_i - a_i u_j),       u_j = sum of a_i J_ij(V_i - a_i u_j)

is Kirchhoff's law of the tile but for what the product misses of K, and for how a rise that differs between the columns
is shared along a row. J follows from Newton's method for every row and a few voltages. Over all cells of a kind these
functions of v are few: J_ij(v) = sum of phi_m(v) W_m,ij, m = 1 ... 4 or so, the leading singular vectors of the cell's
law at various conductances and lines, as Chebyshev polynomials. A read evaluates phi, phi' and phi'' and expands in u
to second order: six matmuls a function. Nothing is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mdls_cosim.errors import ConvergenceError, InputError
from mdls_cosim.fidelity.cell_law import CellLaw, cell_law
from mdls_cosim.fidelity.elimination import Wires
from mdls_cosim.fidelity.interface import check_voltages
from mdls_cosim.surrogates.surrogate import ProgrammedSurrogate, Surrogate
from mdls_cosim.tiles import TileSpec

# Of the singular values of the cells' functions of voltage, and of their last Chebyshev coefficients, relative to the
# largest.
_TOLERANCE = 5e-5
# Even numbers: no node is at 0 V.
_NODES = (12, 16, 20, 24, 30, 36, 44, 54)
# Cells that the functions are found from: conductances, and lines from none to twice the tile's own.
_CONDUCTANCES = 12
_LOADS = (0.0, 0.5, 1.0, 2.0)
_STEPS = 60
_CONVERGED = 1e-10  # of the amplitude
_MOST = 1.2  # times the row's voltage
_LEAST_CONDUCTANCE = 1e-4  # of the largest: below it cells are alike
# Numbers held at once in the matrices of Newton's method.
_CHUNK = 4_000_000
_FACTOR_STEPS = 60
# Newton's, for the rise of the column lines.
_RISE_STEPS = 2
_TINY = 1e-60


class RowResponses(Surrogate):
    """The tile above; `coefficients`: `amplitude` [V] of the voltages and `conductances` (lowest, highest) [S] that its
    functions are made for. Beyond the amplitude they go on along their tangents."""

    kind: ClassVar[str] = "row_responses"
    forms: ClassVar[Mapping[str, int]] = {"amplitude": 1, "conductances": 2}

    def __init__(self, spec: TileSpec, **arguments: Any) -> None:
        super().__init__(spec, **arguments)
        low, high = self.coefficients["conductances"]
        if not 0 <= low <= high or not high:
            raise InputError(
                "no range of conductances",
                where="conductances",
                value=f"{low:g} to {high:g} S",
                limit="0 S or more, rising",
            )

    def _program(self, conductances: Tensor) -> ProgrammedSurrogate:
        return _Programmed(self, conductances)


@dataclass(frozen=True)
class Functions:
    """phi_m and two derivatives, m = 1 ... M, as coefficients of Chebyshev polynomials (N, M)."""

    amplitude: float
    """[V]."""
    nodes: Tensor
    """(N,) [V]: Chebyshev's."""
    projection: Tensor
    """(M, N), from values at the nodes to the factors of phi_m."""
    coefficients: tuple[Tensor, Tensor, Tensor]
    """Of phi, phi' [1/V], phi'' [1/V^2]."""

    @classmethod
    def of(cls, spec: TileSpec, amplitude: float, span: tuple[float, float]) -> Functions:
        """The functions of a tile's cells, between the conductances `span` [S]."""
        device = spec.device
        assert device is not None  # what has a law has a device
        low, high = (math.log10(max(end, _LEAST_CONDUCTANCE * span[1])) for end in span)
        conductances = torch.logspace(low, high, _CONDUCTANCES, dtype=torch.float64).clamp(*span)
        states = device.state_for(conductances, spec.reference_voltage)[:, None]
        wires = Wires.of(spec)
        driver, row_line, column_line, sense = (
            float(torch.as_tensor(each).double().mean())
            for each in (wires.driver, wires.row_line, wires.column_line, wires.sense)
        )
        line = sense + column_line * spec.rows / 2 + (driver + row_line * spec.cols / 2) * spec.cols / 2
        loads = line * torch.tensor(_LOADS, dtype=torch.float64).reshape(-1, 1, 1)
        # Every cell behind every load, as a row of its own.
        states, loads = states.repeat(len(loads), 1), loads.repeat_interleave(len(states), 0)
        for count in _NODES[:-1]:
            found, last = cls._of_nodes(cell_law(spec), amplitude, states, loads, count)
            if last < _TOLERANCE:
                return found
        return cls._of_nodes(cell_law(spec), amplitude, states, loads, _NODES[-1])[0]

    @classmethod
    def _of_nodes(
        cls, law: CellLaw, amplitude: float, states: Tensor, loads: Tensor, count: int
    ) -> tuple[Functions, float]:
        """From so many nodes; and the largest of the last two coefficients, relative to the largest of all."""
        nodes = amplitude * torch.cos(math.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count)
        samples = _alone(law, states, nodes, loads, 0 * loads[..., 0], amplitude)[..., 0]
        samples = samples / samples.abs().amax(-1, keepdim=True).clamp_min(_TINY)
        _, sizes, shapes = torch.linalg.svd(samples, full_matrices=False)
        sizes = sizes[sizes > _TOLERANCE * sizes[0]]
        projection = shapes[: len(sizes)]
        values = torch.linalg.solve(torch.stack(_polynomials(nodes / amplitude, count), -1), projection.mT)
        counting = (values * sizes).abs()
        derivative = _derivative(count) / amplitude
        first = derivative @ values
        found = cls(amplitude, nodes, projection, (values, first, derivative @ first))
        return found, float(counting[-2:].max() / counting.max())

    def to(self, like: Tensor) -> Functions:
        """Where, and in the dtype in which, `like` is."""
        phi, first, second = (each.to(like) for each in self.coefficients)
        return Functions(self.amplitude, self.nodes.to(like), self.projection.to(like), (phi, first, second))

    def __call__(self, voltages: Tensor) -> Tensor:
        """phi, phi', phi'' at voltages (..., rows): (3, ..., M rows)."""
        inside = voltages.clamp(-self.amplitude, self.amplitude)
        powers = torch.stack(_polynomials(inside / self.amplitude, len(self.nodes)))
        found = torch.cat(self.coefficients, 1).mT @ powers.flatten(1)
        phi, first, second = found.reshape(3, found.shape[0] // 3, *voltages.shape)
        phi = torch.addcmul(phi, voltages - inside, first)
        return torch.stack([phi, first, second]).movedim(1, -2).flatten(-2)


@dataclass(frozen=True)
class Matrices:
    """All that a read needs; (*tiles, M rows, 2 cols) for I and for u side by side."""

    functions: Functions
    powers: tuple[Tensor, Tensor, Tensor]
    """[W, a W], [a W, a^2 W] and [a^2 W, a^3 W], for phi, phi' and phi''."""

    def to(self, like: Tensor) -> Matrices:
        """Where, and in the dtype in which, `like` is."""
        first, second, third = (each.to(like) for each in self.powers)
        return Matrices(self.functions.to(like), (first, second, third))

    def currents(self, voltages: Tensor) -> Tensor:
        """(*tiles, batch, cols) [A] for voltages (*tiles, batch, rows) [V]."""
        (current, slope, curvature), rise = self._answer(self.functions(voltages))
        return current - rise * (slope - rise * curvature / 2)

    def power(self, voltages: Tensor) -> Tensor:
        """(*tiles, batch) [W] that the drivers deliver: sum of V_i J_ij(V_i - a_i u_j), to second order in u.

        All that a row's drivers deliver leaves it through its cells, at one end or at both.
        """
        functions = self.functions(voltages)
        _, rise = self._answer(functions)
        at_drivers = voltages.repeat(*[1] * (voltages.ndim - 1), functions.shape[-1] // voltages.shape[-1]) * functions
        # [W, a W], [a W, a^2 W] and [a^2 W, a^3 W]: the left one of each.
        own, slope, curvature = (
            some @ matrix.chunk(2, -1)[0] for some, matrix in zip(at_drivers, self.powers, strict=True)
        )
        return (own - rise * (slope - rise * curvature / 2)).sum(-1)

    def _answer(self, functions: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """I, what a rise of 1 V takes off it and what its square gives back; and the rise u."""
        # Of I and of u, and what a rise of 1 V takes off both, and what its square gives back.
        (current, drive), (slope, weight), (curvature, bend) = (
            (each @ matrix).chunk(2, -1) for each, matrix in zip(functions, self.powers, strict=True)
        )
        rise = drive / (1 + weight)
        for _ in range(_RISE_STEPS):
            left = drive - rise * (1 + weight - rise * bend / 2)
            rise = rise + left / (1 + weight - rise * bend)
        return (current, slope, curvature), rise


class _Programmed(ProgrammedSurrogate):
    def __init__(self, surrogate: RowResponses, conductances: Tensor) -> None:
        spec = surrogate.spec
        assert spec.device is not None  # else there is no law
        # A selector takes all of a small voltage: its cells see what their row is driven by.
        super().__init__(surrogate, conductances, own_shares=torch.ones_like(conductances))
        low, high = surrogate.coefficients["conductances"]
        states = spec.device.state_for(conductances.double(), spec.reference_voltage)
        functions = Functions.of(spec, surrogate.coefficients["amplitude"][0], (low, high)).to(states)
        self.matrices = _matrices(spec, states, functions)
        self._cast: Matrices | None = None
        # Behind an amplifier of finite gain -v_out/R_f falls short of the column's current.
        self._gain = 1.0 if spec.amplifier is None else spec.amplifier.sensed_share

    def _currents(self, voltages: Tensor) -> Tensor:
        if self._cast is None or (self._cast.powers[0].dtype, self._cast.powers[0].device) != (
            voltages.dtype,
            voltages.device,
        ):
            # A first read without gradients must not take them from the next.
            with torch.inference_mode(False), torch.enable_grad():
                self._cast = self.matrices.to(voltages)
        return self._gain * self._cast.currents(voltages)

    def power(self, voltages: Tensor) -> Tensor:
        largest = check_voltages(self.spec, self.conductances.shape[:-2], voltages)
        self.watch(voltages, self._currents(voltages).detach(), largest)
        return self.matrices.power(voltages.to(self.matrices.powers[0])).to(voltages)


def _matrices(spec: TileSpec, states: Tensor, functions: Functions) -> Matrices:
    """Every row of every tile on its own, in pieces."""
    law, tiles, rows, cols = cell_law(spec), states.shape[:-2], spec.rows, spec.cols
    mode, own = (each.to(states) for each in _column_mode(spec))
    lines = _row_lines(spec).to(states)
    each_row = (
        states.reshape(-1, cols),
        lines.expand(rows, cols, cols).repeat(tiles.numel(), 1, 1),
        own.expand(rows, cols).repeat(tiles.numel(), 1),
    )
    step = max(1, _CHUNK // (len(functions.nodes) * cols * cols))
    factors = [
        functions.projection @ _alone(law, mine, functions.nodes, line, series, functions.amplitude)
        for mine, line, series in zip(*(each.split(step) for each in each_row), strict=True)
    ]
    # W, (*tiles, M, rows, cols).
    found = torch.cat(factors).reshape(*tiles, rows, len(functions.projection), cols).transpose(-3, -2)
    weighted = [(found * mode**order).flatten(-3, -2) for order in range(4)]
    first, second, third = (torch.cat(weighted[order : order + 2], -1) for order in range(3))
    return Matrices(functions, (first, second, third))


def _row_lines(spec: TileSpec) -> Tensor:
    """What currents through the cells of a row take off their voltages, (rows or 1, cols, cols) [ohm]."""
    wires, place = Wires.of(spec), torch.arange(spec.cols, dtype=torch.float64)
    driver, row_line = (torch.as_tensor(each).double().reshape(-1, 1, 1) for each in (wires.driver, wires.row_line))
    lines = driver + row_line * torch.minimum(place[:, None], place)
    if wires.far_driver is None:
        return lines
    # The far driver makes up for what the last cell's voltage would lose.
    far = torch.as_tensor(wires.far_driver).double().reshape(-1, 1, 1)
    last = lines[..., :, -1:]
    return lines - last * last.mT / (lines[..., -1:, -1:] + far).clamp_min(_TINY)


def _column_mode(spec: TileSpec) -> tuple[Tensor, Tensor]:
    """a (rows, cols or 1) [ohm^0.5] and d (rows, cols or 1) [ohm] of K: alternating least squares off the diagonal."""
    wires, place = Wires.of(spec), torch.arange(spec.rows, dtype=torch.float64)
    sense, wire = (torch.as_tensor(each).double().reshape(-1, 1, 1) for each in (wires.sense, wires.column_line))
    kernel = sense + wire * (spec.rows - 1 - torch.maximum(place[:, None], place))
    own = kernel.diagonal(dim1=-2, dim2=-1)
    others = kernel - torch.diag_embed(own)
    mode = own.sqrt()
    for _ in range(_FACTOR_STEPS):
        square = mode.square()
        best = (others @ mode[..., None])[..., 0] / (square.sum(-1, keepdim=True) - square).clamp_min(_TINY)
        mode = (mode + best) / 2
    return mode.mT, (own - mode.square()).mT


def _alone(law: CellLaw, states: Tensor, nodes: Tensor, lines: Tensor, own: Tensor, amplitude: float) -> Tensor:
    """Currents of the cells of rows driven alone at each of the nodes, (row, node, cols) [A].

    w = V - L i(w) - d i(w), by Newton's method from cells of the conductance that they have at the row's voltage, its
    directions in single precision.

    Args:
        states: (row, cols).
        nodes: (node,) [V].
        lines: L, (row or 1, cols, cols) [ohm].
        own: d, (row or 1, cols) [ohm].
        amplitude: scale of the tolerance [V].
    """
    driven = nodes[:, None].expand(len(states), -1, states.shape[-1])
    if not len(states):  # no tiles
        return driven
    mine, line, series = states[:, None], lines[:, None], own[:, None]
    resistances, plain = line + torch.diag_embed(series), mine.detach()
    unity = torch.eye(states.shape[-1]).to(resistances)
    # No cell sees much more than its row; wild first steps would.
    most = _MOST * driven.abs()

    def missed(voltage: Tensor, current: Tensor) -> Tensor:
        return driven - (line @ current[..., None])[..., 0] - series * current - voltage

    def direction(slope: Tensor, wanted: Tensor) -> Tensor:
        system = (unity + resistances * slope[..., None, :]).float()
        return torch.linalg.solve(system, wanted.float()[..., None])[..., 0].double()

    across = direction(law.current(driven, plain) / driven, driven)
    step, slope = driven, driven
    for _ in range(_STEPS):
        with torch.enable_grad():
            unknown = across.clone().requires_grad_()
            passed = law.current(unknown, plain)
            (slope,) = torch.autograd.grad(passed, unknown, torch.ones_like(passed))
        onwards = across + direction(slope, missed(across, passed.detach()))
        onwards = torch.minimum(torch.maximum(onwards, -most), most)
        step, across = onwards - across, onwards
        if float(step.abs().max()) <= _CONVERGED * amplitude:
            break
    if not float(step.abs().max()) <= _CONVERGED * amplitude:
        raise ConvergenceError(
            "rows of a tile have no solution on their own",
            value=f"a last step of {float(step.abs().max()):.2g} V",
            limit=f"{_CONVERGED * amplitude:.2g} V",
            hint="check the amplitude against the cell's non-linearity",
        )
    if states.requires_grad:
        # One more step, with the derivatives by the states.
        left = missed(across, law.current(across, mine))
        across = across + torch.linalg.solve(unity + resistances * slope[..., None, :], left[..., None])[..., 0]
    return law.current(across, mine)


def _polynomials(position: Tensor, count: int) -> list[Tensor]:
    """T_0 ... T_(count - 1) at positions within +-1."""
    found = [torch.ones_like(position), position]
    twice = 2 * position
    while len(found) < count:
        found.append(torch.addcmul(-found[-2], twice, found[-1]))
    return found


def _derivative(count: int) -> Tensor:
    """From the coefficients of Chebyshev polynomials to those of their derivative, (count, count)."""
    order = torch.arange(count, dtype=torch.float64)
    below = (order[:, None] < order) & ((order[:, None] + order) % 2 == 1)
    matrix = 2 * order * below
    matrix[0] /= 2
    return matrix
