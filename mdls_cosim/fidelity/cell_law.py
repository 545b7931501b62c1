"""The current of a cell between its row line and its column line, as the torch rungs need it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mdls_cosim.devices import ROOM_TEMPERATURE, Device, ExponentialSelector, Nmos
from mdls_cosim.devices.dynamics.population import varied_parameters
from mdls_cosim.devices.roots import rising_root
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.tiles import SelectorCell, TileSpec, TransistorCell

# Steps of Newton's, as shares of the voltage over which the second part bends, after which what is left is rounding.
_NEAR = {torch.float64: 1e-8, torch.float32: 1e-4}
# A guess is a few such steps from the solution; memristors that bend more than the second part take longer.
_STEPS = 10
# Elements at a time on a CPU, so that what the equations need for them stays in its cache.
_BLOCK = 4096
# A slope that divides nothing.
_TINY = 1e-36


class CellLaw(Protocol):
    """A two-terminal cell: a smooth current that rises with the voltage, at a state."""

    @property
    def linear(self) -> bool:
        """The current is proportional to the voltage."""
        ...

    def current(self, voltage: Tensor, state: Tensor) -> Tensor:
        """[A] at `voltage` [V] from row to column line; the arguments broadcast."""
        ...


@dataclass(frozen=True)
class DeviceLaw:
    """A memristor alone, at the temperature of its tile."""

    device: Device | NumberedDevice
    temperature: float = ROOM_TEMPERATURE

    @property
    def linear(self) -> bool:
        return self.device.linear

    def current(self, voltage: Tensor, state: Tensor) -> Tensor:
        return self.device.current(voltage, state, self.temperature)


class SecondPart(ABC):
    """What stands between a memristor and its column line."""

    @property
    @abstractmethod
    def bend(self) -> float:
        """Its current follows its slope within a small part of so many volts."""

    @abstractmethod
    def current(self, voltage: Tensor) -> Tensor:
        """[A] at its own voltage [V]."""

    @abstractmethod
    def current_and_slope(self, voltage: Tensor) -> tuple[Tensor, Tensor]:
        """[A] and [S], without derivatives."""

    @abstractmethod
    def guess(self, voltage: Tensor, conductance: Tensor) -> Tensor:
        """About its voltage [V] behind `conductance` [S] at a positive `voltage` [V] over both."""


@dataclass(frozen=True)
class Barrier(SecondPart):
    """A selector without hysteresis."""

    selector: ExponentialSelector

    @property
    def bend(self) -> float:
        return self.selector.slope_voltage

    def current(self, voltage: Tensor) -> Tensor:
        return self.selector.current(voltage)

    def current_and_slope(self, voltage: Tensor) -> tuple[Tensor, Tensor]:
        grown = (voltage.abs() / self.bend).expm1()
        falling = grown / (grown + 1)
        half = self.selector.saturation_current / 2
        # sinh and cosh from one exponential, exact near 0.
        return (half * (grown + falling)).copysign(voltage), half / self.bend * (2 + grown - falling)

    def guess(self, voltage: Tensor, conductance: Tensor) -> Tensor:
        """Of I = I_s/2 exp(m/V_s): I/(G V_s) = W(e^x), x = V/V_s + ln(I_s/(2 G V_s)); m = V - I/G = V_s (V/V_s - W).

        W, Lambert's, to a few percent by Iacono and Boyd (10.1007/s10444-017-9530-3); here where it is small or large.
        """
        unit = (conductance * self.bend).clamp_min(torch.finfo(voltage.dtype).tiny)
        grown = torch.nn.functional.softplus(voltage / self.bend + (self.selector.saturation_current / 2 / unit).log())
        share = grown * (1 - grown.log1p() / (2 + grown))
        return (1 + 2 / self.selector.saturation_current * unit * share).log() * self.bend


@dataclass(frozen=True)
class Channel(SecondPart):
    """A transistor whose source is at ground."""

    transistor: Nmos
    gate_voltage: float

    @property
    def bend(self) -> float:
        return 0.1

    def current(self, voltage: Tensor) -> Tensor:
        return self.transistor.current(voltage, self.gate_voltage, 0 * voltage)

    def current_and_slope(self, voltage: Tensor) -> tuple[Tensor, Tensor]:
        """As `Nmos.current`, without a case for every sign."""
        fet = self.transistor
        root = fet.surface_potential**0.5
        size, below = voltage.abs(), voltage.clamp_max(0.0)
        tangent = (below / (2 * root)).clamp_min(-root)
        over = (self.gate_voltage - fet.threshold_voltage - below - fet.body_effect * tangent).clamp_min(0.0)
        # Below ground the drain is the source, and moves the threshold.
        rise = (below < 0) * (1 + fet.body_effect / (2 * root) * (tangent > -root))
        channel = torch.minimum(size, over)
        bent = (over - channel / 2) * channel
        factor = fet.transconductance * fet.width / fet.length
        longer = factor * (1 + fet.channel_modulation * size)
        slope = factor * fet.channel_modulation * bent + longer * (rise * channel + over - channel)
        return (longer * bent).copysign(voltage), slope

    def guess(self, voltage: Tensor, conductance: Tensor) -> Tensor:
        current = conductance * voltage
        passed, _ = self.current_and_slope(voltage)
        return (voltage * (current / (current + passed))).nan_to_num(nan=0.0)


@dataclass(frozen=True)
class SeriesLaw:
    """A memristor with a selector or a transistor behind it: i_m(V - m) = i_s(m), m being the voltage of the second.

    Solved element by element to rounding, in the precision of the arguments; derivatives follow from the equation, not
    from the steps. Of a transistor the source is taken to be at ground: the rise of the column line (millivolts,
    against volts at the gate) moves its threshold by as much, which is left out.
    """

    first: Device | NumberedDevice
    second: SecondPart
    temperature: float = ROOM_TEMPERATURE

    @property
    def linear(self) -> bool:
        return False

    def current(self, voltage: Tensor, state: Tensor) -> Tensor:
        dtype = torch.result_type(voltage, state)
        arguments = torch.broadcast_tensors(voltage.to(dtype), state.to(dtype))
        return self.second.current(_Divider.apply(*arguments, self))

    def divide(self, voltage: Tensor, state: Tensor) -> Tensor:
        """m [V], without derivatives: of voltages and states of one shape."""
        across = torch.empty(voltage.shape, dtype=voltage.dtype, device=voltage.device)
        flat, volts, states = across.view(-1), voltage.reshape(-1), state.reshape(-1)
        size = _BLOCK if voltage.device.type == "cpu" else max(1, len(flat))
        for begin in range(0, len(flat), size):
            part = slice(begin, begin + size)
            flat[part] = self._divided(volts[part], states[part])
        return across

    def _divided(self, voltage: Tensor, state: Tensor) -> Tensor:
        """Newton's method from a good guess; what does not get there soon is sought between brackets."""
        alone = self.first.current(voltage, state, self.temperature)
        chord = (alone / voltage).nan_to_num(nan=0.0).clamp_min(0.0)
        size = voltage.abs()
        across = torch.minimum(self.second.guess(size, chord), size).copysign(voltage)
        near, left = _NEAR[voltage.dtype] * self.second.bend, size
        for _ in range(_STEPS):
            passed, slope = self.second.current_and_slope(across)
            through, fall = self._memristor(voltage - across, state, chord)
            step = (through - passed) / (slope + fall).clamp_min(_TINY)
            # Both parts take voltage of one sign.
            onwards = torch.minimum(torch.maximum(across + step, voltage.clamp_max(0.0)), voltage.clamp_min(0.0))
            left, across = (onwards - across).abs(), onwards
            if float(left.max()) <= near:
                return across
        late = ~(left <= near)
        volts, states = voltage[late].double(), state[late].double()
        share = rising_root(self._mismatch, (volts, states), (0.0, 1.0), 0.5, 1e-9)
        across[late] = (share * volts).to(across)
        return across

    def _mismatch(self, share: Tensor, voltage: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """i_s(s V) - i_m((1 - s) V), with the sign of V so that it rises with the share s; and its slope."""
        passed, slope = self.second.current_and_slope(share * voltage)
        through, fall = _with_slope(
            lambda volts: self.first.current(volts, state, self.temperature), (1 - share) * voltage
        )
        value = torch.where(voltage < 0, through - passed, passed - through)
        return value, (slope + fall) * voltage.abs()

    def _memristor(self, voltage: Tensor, state: Tensor, chord: Tensor) -> tuple[Tensor, Tensor]:
        """Current [A] and its slope [S]."""
        if self.first.linear:
            return chord * voltage, chord
        return _with_slope(lambda volts: self.first.current(volts, state, self.temperature), voltage)


class _Divider(torch.autograd.Function):
    """m of a SeriesLaw; dm = (s_m dV + di_m/dx dx)/(s_m + s_s), of the slopes of both parts at the solution."""

    @staticmethod
    def forward(ctx: Any, voltage: Tensor, state: Tensor, law: SeriesLaw) -> Tensor:
        across = law.divide(voltage.detach(), state.detach())
        ctx.law = law
        ctx.save_for_backward(voltage, state, across)
        return across

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        voltage, state, across = ctx.saved_tensors
        law, again = ctx.law, torch.is_grad_enabled()
        with torch.enable_grad():
            # Of their own, so that partial derivatives are taken; further ones go on through them.
            over, mine, other = (
                each.view_as(each) if again and each.requires_grad else each.detach().requires_grad_()
                for each in (voltage - across, state, across)
            )
            passed = law.first.current(over, mine, law.temperature)
            slope, by_state = torch.autograd.grad(passed.sum(), (over, mine), create_graph=again)
            (conductance,) = torch.autograd.grad(law.second.current(other).sum(), other, create_graph=again)
            share = gradient / (slope + conductance).clamp_min(_TINY)
            return share * slope, share * by_state, None


def _with_slope(function: Callable[[Tensor], Tensor], voltage: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        unknown = voltage.detach().requires_grad_()
        value = function(unknown)
        (slope,) = torch.autograd.grad(value, unknown, torch.ones_like(value))
    return value.detach(), slope


@dataclass(frozen=True, eq=False)
class NumberedDevice:
    """Devices that differ from cell to cell, in the place of one device in a law: the "state" of a cell is its number.

    Solvers expand, cut and permute the states of a tile; numbers go along, and lead to the state and the parameters of
    the cell wherever the law is asked. Has no derivative by conductances.
    """

    devices: Device
    """A population (`Device.varied`)."""
    states: Tensor
    """Of every cell, float64."""

    @property
    def numbers(self) -> Tensor:
        """Of every cell, float64, in the shape of `states`."""
        return torch.arange(self.states.numel(), dtype=torch.float64, device=self.states.device).view(self.states.shape)

    @property
    def linear(self) -> bool:
        return self.devices.linear

    def current(self, voltage: Tensor, state: Tensor, temperature: float = ROOM_TEMPERATURE) -> Tensor:
        """[A] at `voltage` [V] over the cells of the numbers `state`; the arguments broadcast."""
        place = state.detach().long()
        dtype = voltage.dtype
        parameters = {
            name: value.to(self.states).expand(self.states.shape).reshape(-1)[place].to(dtype)
            for name, value in varied_parameters(self.devices).items()
        }
        mine = self.devices.varied(parameters)
        # The number is kept in the graph: whoever differentiates by states finds zero.
        return mine.current(voltage, self.states.reshape(-1)[place].to(dtype), temperature) + 0 * state


MOST_NUMBERED = 2**24
"""Cells whose numbers a float32 tells apart."""


def law_and_states(spec: TileSpec, conductances: Tensor, devices: Device | None = None) -> tuple[CellLaw, Tensor]:
    """The law of the cells of a tile, and the states that give them `conductances` (*tiles, rows, cols) [S].

    Args:
        devices: the memristor of every cell, a population whose parameters broadcast to the conductances; None: that
            of the spec in all cells.

    Raises:
        NotAvailable: a cell that only its SPICE circuit knows.
        InputError: too many cells with devices of their own.
    """
    if devices is None:
        law = cell_law(spec)
        assert spec.device is not None  # a cell with a law has a memristor
        return law, spec.device.state_for(conductances.double(), spec.reference_voltage)
    if conductances.numel() > MOST_NUMBERED:
        raise InputError(
            "too many cells with devices of their own",
            value=conductances.numel(),
            limit=MOST_NUMBERED,
            hint="Program fewer tiles at a time",
        )
    states = devices.state_for(conductances.detach().double(), spec.reference_voltage)
    numbered = NumberedDevice(devices, states.expand(conductances.shape))
    return cell_law(spec, numbered), numbered.numbers


def cell_law(spec: TileSpec, device: Device | NumberedDevice | None = None) -> CellLaw:
    """The cell of a tile, where it is one of two terminals.

    Args:
        device: its memristor; None: that of the spec.

    Raises:
        NotAvailable: a cell that only its SPICE circuit knows.
    """
    cell, kelvin = spec.cell, spec.temperature
    if isinstance(cell, Device):
        return DeviceLaw(device or cell, kelvin)
    if isinstance(cell, SelectorCell) and isinstance(cell.selector, ExponentialSelector):
        return SeriesLaw(device or cell.device, Barrier(cell.selector), kelvin)
    if isinstance(cell, TransistorCell) and kelvin == ROOM_TEMPERATURE:
        return SeriesLaw(device or cell.device, Channel(cell.transistor, cell.gate_voltage))
    raise NotAvailable(
        f"{spec.cell.model} cells: known to the SPICE circuit only",
        hint="Run this tile on SpiceTile, or characterize it.",
    )
