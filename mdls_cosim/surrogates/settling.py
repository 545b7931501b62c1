"""Step response and settling time of a tile, by moments of its circuit: nothing is fitted.

With its cells linear a tile is a network of resistors and capacitors. Its node voltages x follow

    x + R C dx/dt = x_end r(t),

R being the resistance matrix between its nodes, C the capacitances, r(t) the sources' ramp from 0 to 1 within `rise`,
and x_end the operating point. R C is symmetric in the inner product x.C y, so all time constants are real, and a few
steps of Lanczos from x_end find those that this read excites: q_k = (R C)^k x_end, made orthonormal, span a small
tridiagonal matrix whose eigenvalues are the time constants tau_m. m steps match 2 m moments of the stored charge, as in
AWE (Pillage and Rohrer, 10.1109/43.45867), but stay stable at any order (passive reduction, 10.1109/43.712097);
moments by themselves do not. The first of them is Elmore's delay (10.1063/1.1697872). Every step is one solve of the
factorised tile. The column currents are then

    I(t) = I_end r(t) - sum_m c_m w_m(t) e^(-max(t - rise, 0)/tau_m),   w_m = (1 - e^(-min(t, rise)/tau_m))/rise,

c_m being the charge that mode m brings to a column's sense node.

A transimpedance amplifier -A/(1 + s A/w) with feedback R_f adds one state a column, the sensed current m. With I the
current of the column, m + a/w dm/dt = a I, a = A/(1 + A), and its input is a resistance R_f/(1 + A) in series with a
source -a R_f/w dm/dt. Then R C has no such symmetry, and time constants may be complex: the output rings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mdls_cosim.dataset import Dataset
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.fidelity.cell_law import CellLaw, cell_law
from mdls_cosim.fidelity.elimination import Ohms, Wires, factorise
from mdls_cosim.fidelity.interface import check_conductances, check_voltages
from mdls_cosim.tiles import TileSpec

_LARGEST_BITS = 24
_CHUNK = 4_000_000  # numbers in the largest array
_GRID = 256  # times at which the last excursion from the band is looked for
_HALVINGS = 40  # of the step in which it ends
_NOTHING = 1e-12  # of the largest time constant: rounding


@dataclass(frozen=True)
class StepResponse:
    """Column currents after the row voltages have stepped from 0 V, in float64, without gradients."""

    final: Float[Tensor, "*tiles batch cols"]
    """I_end [A]."""
    time_constants: Float[Tensor, "*tiles batch modes"]
    """tau_m [s]; of a capacitance that charges at once, 0. Behind an amplifier complex: an output may ring."""
    charges: Float[Tensor, "*tiles batch cols modes"]
    """c_m [C]; with complex time constants in conjugate pairs."""
    rise: float
    """Time in which the sources reach their voltages [s]."""

    def currents(self, times: Float[Tensor, " times"]) -> Float[Tensor, "*tiles batch cols times"]:
        """Column currents [A] at `times` [s]."""
        taus = self.time_constants[..., None, :]
        return self.final[..., None] + _miss(times, self.rise, self.final, taus, self.charges)

    def settling_time(self, bits: int = 6, full_scale: float | Tensor | None = None) -> Tensor:
        """When each output enters, for good, half a step of a converter of `bits` bits: |I - I_end| <= FS/2^(bits+1).

        An excursion shorter than 1/256 of the whole may be missed.

        Args:
            bits: of the converter.
            full_scale: FS [A], broadcasting to (*tiles, batch, cols); absent: the largest |I_end| of each tile over
                the batch, as in experiment `settle`.

        Returns:
            (*tiles, batch, cols) [s] from the start of the ramp; 0 where the output never leaves the band.

        Raises:
            InputError: a number of bits outside 1 - 24, a full scale that is not above 0 A.
        """
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= _LARGEST_BITS:
            raise InputError("bits of no converter", where="bits", value=bits, limit=f"1 to {_LARGEST_BITS}")
        if not self.final.numel():
            return self.final.clone()
        scale = self.final.abs().amax((-2, -1), keepdim=True) if full_scale is None else full_scale
        scale = torch.as_tensor(scale, dtype=self.final.dtype, device=self.final.device)
        if full_scale is not None and not bool((scale > 0).all() & scale.isfinite().all()):
            raise InputError("an impossible full scale", where="full_scale", limit="above 0 A, finite")
        band = (scale / 2 ** (bits + 1)).expand_as(self.final).reshape(-1)
        final, modes = self.final.reshape(-1), self.time_constants.shape[-1]
        taus = self.time_constants[..., None, :].expand_as(self.charges).reshape(-1, modes)
        parts = [each.split(max(1, _CHUNK // _GRID)) for each in (final, taus, self.charges.reshape(-1, modes), band)]
        found = [_last_excursion(self.rise, *part) for part in zip(*parts, strict=True)]
        return torch.cat(found).reshape(self.final.shape)


@torch.no_grad()
def step_response(
    spec: TileSpec,
    conductances: Float[Tensor, "*tiles rows cols"],
    voltages: Float[Tensor, "*tiles batch rows"],
    *,
    rise: float = 10e-12,
    modes: int = 12,
) -> StepResponse:
    """How the column currents of programmed tiles come to rest after their inputs have stepped from 0 V.

    Exact for ohmic cells as `modes` grows: 4 give the settling time to about a percent where drivers or sense side
    dominate, 8 on long resistive lines. Other cells are linearised about the operating point of each read, which is
    exact for the last part of the way; a factorisation a read instead of one a tile.

    Args:
        spec: the tile, with its capacitances.
        conductances, voltages: [S], [V] as for a `TileModel`; leading dimensions broadcast.
        rise: of the sources [s].
        modes: time constants a read.

    Raises:
        InputError: arrays that do not fit the tile, a negative rise, no modes.
        NotAvailable: what `NodalTile` cannot solve either, and rows driven at both ends.
    """
    if not (isinstance(rise, int | float) and 0 <= rise < math.inf):
        raise InputError("an impossible rise time", where="rise", value=rise, limit="0 s or more, finite")
    if isinstance(modes, bool) or not isinstance(modes, int) or modes < 1:
        raise InputError("no time constants asked for", where="modes", value=modes, limit="1 or more")
    sense, law = _Sense.of(spec), cell_law(spec)
    assert spec.device is not None  # a cell with a law has a memristor
    check_conductances(spec, conductances)
    check_voltages(spec, conductances.shape[:-2], voltages)
    tiles = torch.broadcast_shapes(conductances.shape[:-2], voltages.shape[:-2])
    batch, rows, cols = voltages.shape[-2], spec.rows, spec.cols
    outputs = (*tiles, batch, cols)
    if not math.prod(outputs):
        nothing = torch.zeros(outputs, dtype=torch.float64, device=voltages.device)
        modes_of_none = nothing[..., None].expand(*outputs, modes)
        return StepResponse(nothing, modes_of_none.sum(-2), modes_of_none, float(rise))
    over_cells = NodalTile(spec).program(conductances.double()).cell_voltages(voltages.double())
    states = spec.device.state_for(conductances.double(), spec.reference_voltage)[..., None, :, :]
    flows = law.current(over_cells, states)
    # Of linear cells one read has the slopes of all.
    slopes = _slopes(law, over_cells[..., :1, :, :] if law.linear else over_cells, states).reshape(-1, rows, cols)
    reads = (-1, batch if law.linear else 1)
    driven = voltages.double().expand(*tiles, batch, rows).reshape(*reads, rows)
    flows = flows.reshape(*reads, rows, cols)
    # Tiles and reads at once, so that memory stays bounded.
    some_tiles = max(1, _CHUNK // (2 * rows * cols * max(rows, modes * reads[1])))
    some_reads = max(1, _CHUNK // (2 * rows * cols * modes * some_tiles))
    found = []
    for own, volts, flow in zip(*(each.split(some_tiles) for each in (slopes, driven, flows)), strict=True):
        network = _Network(spec, sense, own)
        parts = zip(volts.split(some_reads, 1), flow.split(some_reads, 1), strict=True)
        taus, charges = zip(*(network.modes(*part, modes) for part in parts), strict=True)
        found.append((torch.cat(taus, 1), torch.cat(charges, 1)))
    taus, charges = (torch.cat(each) for each in zip(*found, strict=True))
    return StepResponse(
        final=sense.share * flows.sum(-2).reshape(outputs),
        time_constants=taus.reshape(*tiles, batch, modes),
        charges=charges.reshape(*outputs, modes),
        rise=float(rise),
    )


@dataclass(frozen=True)
class _Sense:
    """What the sense side does to the current of a column; the virtual ground itself is share 1 and no delay."""

    share: float = 1.0
    """a, of the column's current at rest."""
    delay: float = 0.0
    """1/w [s]."""
    feedback: float = 0.0
    """R_f [ohm]."""

    @classmethod
    def of(cls, spec: TileSpec) -> _Sense:
        amplifier = spec.amplifier
        if amplifier is None:
            return cls()
        delay = 1 / (2 * math.pi * amplifier.gain_bandwidth)
        return cls(amplifier.sensed_share, delay, amplifier.feedback_resistance)


class _Network:
    """Node voltages of tiles with linear cells; tensors are (tiles, cols, rows, reads) as in `Sweep`.

    Of injected currents the lines alone would make voltages e_u and e_v. With the cells in place, the difference
    e = e_u - e_v stands like a source in series with every cell; as a current source g e beside it (Norton) it is
    what the factorised tile solves.
    """

    def __init__(self, spec: TileSpec, sense: _Sense, conductances: Tensor) -> None:
        self.spec, self.sense, self.wires = spec, sense, Wires.of(spec).to(conductances)
        self.sweep = factorise(conductances, self.wires)
        self.conductances = conductances.mT[..., None]

    def modes(self, voltages: Tensor, flows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Time constants (tiles, reads, modes) and charges (tiles, reads, cols, modes).

        Args:
            voltages: (tiles, reads, rows) [V].
            flows: (tiles, reads, rows, cols), currents of the cells at the end [A].
        """
        through = flows.movedim(-3, -1).transpose(-3, -2)
        # The operating point: what the drivers give, less the drop along the lines.
        nodes = torch.stack([voltages.mT[:, None] - self.along_rows(through), self.along_columns(through)])
        sensed = self.sense.share * through.sum(-2)  # (tiles, cols, reads)
        length = first = self.norm(nodes, sensed)
        basis: list[tuple[Tensor, Tensor]] = []
        outputs: list[Tensor] = []
        matrix = nodes.new_zeros((*first.shape, count, count + 1))
        for step in range(count):
            scale = torch.where(length > 0, 1 / length, 0.0)[:, None]
            nodes, sensed = nodes * scale[:, None], sensed * scale
            basis.append((nodes, sensed))
            nodes, sensed = self.relax(nodes, sensed)
            outputs.append(sensed)
            largest = self.norm(nodes, sensed)
            # Twice, as rounding leaves a remainder of the first time.
            for _ in range(2):
                for place, (other, current) in enumerate(basis):
                    share = self.product(other, current, nodes, sensed)
                    matrix[..., step, place] += share
                    nodes = nodes - share[:, None, None, :] * other
                    sensed = sensed - share[:, None, :] * current
            length = self.norm(nodes, sensed)
            length = torch.where(length > _NOTHING * largest, length, 0.0)
            matrix[..., step, step + 1] = length
        matrix = matrix[..., :count].mT
        arriving = torch.stack(outputs, -1).transpose(-3, -2)  # (tiles, reads, cols, modes)
        if not self.sense.delay:
            taus, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
            weights = vectors[..., 0, :]
        else:
            taus, vectors = torch.linalg.eig(matrix)
            arriving = arriving.to(vectors.dtype)
            weights = torch.linalg.pinv(vectors)[..., 0]
        # What would not decay is rounding.
        taus = torch.where(taus.real > _NOTHING * taus.abs().amax(-1, keepdim=True), taus, 0.0)
        return taus, (arriving @ vectors) * (weights * first[..., None])[..., None, :]

    def relax(self, nodes: Tensor, sensed: Tensor) -> tuple[Tensor, Tensor]:
        """R C nodes (2, tiles, cols, rows, reads), and what that brings to each sense side (tiles, cols, reads)."""
        sense = self.sense
        into_rows, into_columns = self.charges(nodes)
        open_rows, open_columns = self.along_rows(into_rows), self.along_columns(into_columns)
        held = sense.delay * sensed
        open_columns = open_columns - (sense.share * sense.feedback * held)[..., None, :]
        source = open_rows - open_columns
        still = source.new_zeros((source.shape[0], self.spec.rows, source.shape[-1]))
        over_cells, _ = self.sweep.solve(still, self.conductances * source)
        through = self.conductances * (over_cells + source)
        relaxed = torch.stack([open_rows - self.along_rows(through), open_columns + self.along_columns(through)])
        return relaxed, sense.share * ((through + into_columns).sum(-2) + held)

    def charges(self, nodes: Tensor) -> Tensor:
        """C nodes, on row lines and on column lines."""
        rows, columns = nodes
        across = self.spec.cell_capacitance * (rows - columns)
        return torch.stack(
            [self.spec.row_line_capacitance * rows + across, self.spec.column_line_capacitance * columns - across]
        )

    def product(self, one: Tensor, one_sensed: Tensor, other: Tensor, other_sensed: Tensor) -> Tensor:
        """x.C y, (tiles, reads); a sensed current counts as that energy in the amplifier."""
        amplifiers = self.sense.delay * self.sense.feedback * (one_sensed * other_sensed).sum(-2)
        return (one * self.charges(other)).sum((0, -3, -2)) + amplifiers

    def norm(self, nodes: Tensor, sensed: Tensor) -> Tensor:
        """sqrt(x.C x), (tiles, reads)."""
        return self.product(nodes, sensed, nodes, sensed).clamp_min(0).sqrt()

    def along_rows(self, currents: Tensor) -> Tensor:
        """Voltages that `currents` into the nodes of the row lines alone make, driven ends at 0 V."""
        segment, end = (_of_lines(each, 1) for each in (self.wires.row_line, self.wires.driver))
        return _along(currents, segment, end, -3)

    def along_columns(self, currents: Tensor) -> Tensor:
        """Likewise of the column lines, sensed below the last row."""
        segment, end = (_of_lines(each, 2) for each in (self.wires.column_line, self.wires.sense))
        return _along(currents.flip(-2), segment, end, -2).flip(-2)


def _of_lines(resistance: Ohms, following: int) -> Ohms:
    """Of lines that differ, in front of so many dimensions."""
    if not (isinstance(resistance, Tensor) and resistance.ndim):
        return resistance
    return resistance[(..., *[None] * following)]


def _along(currents: Tensor, segment: Ohms, end: Ohms, dim: int) -> Tensor:
    """Voltages along a line whose first node has `end` to 0 V, and `segment` between neighbours."""
    passing = currents.flip(dim).cumsum(dim).flip(dim)
    drops = torch.cat([passing.narrow(dim, 0, 1) * end, passing.narrow(dim, 1, passing.shape[dim] - 1) * segment], dim)
    return drops.cumsum(dim)


def _slopes(law: CellLaw, voltages: Tensor, states: Tensor) -> Tensor:
    """dI/dV of every cell [S]."""
    with torch.enable_grad():
        at = voltages.detach().requires_grad_()
        return torch.autograd.grad(law.current(at, states.detach()).sum(), at)[0]


def _miss(times: Tensor, rise: float, final: Tensor, taus: Tensor, charges: Tensor) -> Tensor:
    """I(t) - I_end [A]: `times` (…, times), final (…), taus and charges (…, modes)."""
    after = (times - rise).clamp_min(0)
    share = (times / rise).clamp_max(1) if rise else torch.ones_like(times)
    missed = final[..., None] * (share - 1)
    for tau, charge in zip(taus.unbind(-1), charges.unbind(-1), strict=True):
        rate = _rates(tau)[..., None]
        weight = -torch.expm1(-times.clamp_max(rise) * rate) / rise if rise else rate
        missed = missed - (charge[..., None] * weight * torch.exp(-after * rate)).real
    return missed


def _rates(taus: Tensor) -> Tensor:
    """1/tau; of what charges at once a number whose exponential is 0."""
    return 1 / torch.where(taus == 0, torch.finfo(taus.dtype).tiny ** 0.5, taus)


def _last_excursion(rise: float, final: Tensor, taus: Tensor, charges: Tensor, band: Tensor) -> Tensor:
    """When |I - I_end| leaves `band` no more, (outputs,) [s]."""
    # Beyond this time every mode is below its share of the band.
    rates = _rates(taus)
    start = (charges * (-torch.expm1(-rise * rates) / rise if rise else rates)).abs()
    ends = torch.log(taus.shape[-1] * start / band[:, None]).clamp_min(0) / rates.real
    end = rise + torch.where((taus != 0) & (start > 0), ends, 0.0).amax(-1)
    times = end[:, None] * torch.linspace(0, 1, _GRID + 1, dtype=end.dtype, device=end.device)
    outside = _miss(times, rise, final, taus, charges).abs() > band[:, None]
    last = (outside * torch.arange(1, _GRID + 2, device=end.device)).amax(-1)  # 0: never
    low = times.gather(-1, (last - 1).clamp_min(0)[:, None])
    high = times.gather(-1, last.clamp_max(_GRID)[:, None])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        out = _miss(middle, rise, final, taus, charges).abs() > band[:, None]
        low, high = torch.where(out, middle, low), torch.where(out, high, middle)
    return torch.where(last > 0, high[:, 0], 0.0)


# --- against data -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SettlingError:
    """Predicted against simulated settling times of one tile of a Dataset."""

    label: str
    """Which of several tiles, "16x16 hot"; empty where there is no other."""
    rms: float
    """RMS of the difference over the RMS of the simulated times."""
    slowest: float
    """Largest relative error of the time after which all outputs of a read have settled."""
    outputs: int
    """How many were compared."""


def settling_errors(dataset: Dataset, *, modes: int = 12) -> tuple[SettlingError, ...]:
    """How far predicted settling times are from those of experiment `settle`, tile by tile.

    What failed to simulate is left out.

    Raises:
        InputError: the Dataset has no such experiment, or does not tell its tiles.
        NotAvailable: a tile that `step_response` does not know.
    """
    variants, plan = dataset.variants("settle"), dataset.config.get("settle") or {}
    if not variants or "bits" not in plan:
        raise InputError(
            "the Dataset has no settling times",
            value=", ".join(sorted(dataset.experiments)) or "no experiment",
            hint="add a table [settle] to the specification and characterize again",
        )
    found = []
    for variant in variants:
        tile = (dataset.config.get("corners") or {}).get(variant.corner) or dataset.config.get("tile")
        if tile is None:
            raise InputError("the Dataset does not tell its tile", where="config.tile")
        values = {name: np.asarray(array.values) for name, array in variant.arrays.items()}
        spec = TileSpec(**{**tile, "rows": values["voltages"].shape[-1], "cols": values["settling_time"].shape[-1]})
        conductances, voltages = (torch.as_tensor(values[name]) for name in ("conductances", "voltages"))
        response = step_response(spec, conductances, voltages, rise=plan["rise"], modes=modes)
        predicted = response.settling_time(plan["bits"]).numpy()
        whole = ~np.isnan(values["settling_time"]).any((-2, -1))
        if not whole.any():
            continue
        predicted, simulated = predicted[whole], values["settling_time"][whole]
        slowest = simulated.max(-1)
        late = np.abs(predicted.max(-1) - slowest) / np.where(slowest > 0, slowest, np.inf)
        scale = float(np.sqrt(np.mean(simulated**2)))
        rms = float(np.sqrt(np.mean((predicted - simulated) ** 2))) / max(scale, 1e-30)
        found.append(SettlingError(variant.label, rms, float(late.max()), simulated.size))
    return tuple(found)
