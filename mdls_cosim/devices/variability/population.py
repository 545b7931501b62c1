"""The cells of an array as devices: what effects that go through the device's own equations need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from array_api_compat import array_namespace, is_array_api_obj

from mdls_cosim.devices.base import Array, Device, DynamicDevice
from mdls_cosim.devices.variability.effect import Outcome, counted
from mdls_cosim.errors import InputError


@dataclass(frozen=True)
class Cells:
    """The device in every cell of an array, and the voltages at which it is programmed and read."""

    device: Device
    """Nominal."""
    reference_voltage: float = 0.0
    """At which I/V is the conductance [V]; 0 V: the small-signal limit."""
    read_voltage: float = 0.2
    """Largest voltage of a read, positive [V]."""


@dataclass(frozen=True)
class Population:
    """Cells whose devices differ: the nominal device, and the actual one of every cell."""

    cells: Cells
    parameters: Mapping[str, Array] = field(default_factory=dict)
    """Parameters that differ, each an array of the cells' shape; empty: every cell holds the nominal device."""

    @property
    def device(self) -> Device:
        """The actual devices, as one object whose parameters are arrays (`Device.varied`)."""
        nominal = self.cells.device
        return nominal.varied(self.parameters) if self.parameters else nominal

    def bounds(self, like: Array) -> tuple[Array, Array]:
        """Least and largest I/V [S] at the reference voltage of every cell: numbers, or arrays of the cells' shape."""
        return conductance_bounds(self.device, self.cells.reference_voltage, like)

    def held(self, conductances: Array, what: str = "clipped") -> Outcome:
        """`conductances` [S] within the bounds of the cells, and how many were not (rounding aside), under `what`."""
        xp = array_namespace(conductances)
        lowest, highest = self.bounds(conductances)
        held = xp.minimum(xp.maximum(conductances, lowest + 0 * conductances), _ceiling(xp, highest, conductances))
        rounding = 4 * float(xp.finfo(conductances.dtype).eps)
        return Outcome(held, counted(what, xp.abs(held - conductances) > rounding * conductances))

    def open_loop(self, conductances: Array) -> Outcome:
        """What the actual devices show [S] in the states that give the nominal one `conductances` [S].

            G = G_actual(x),    x from G_nominal(x) = target

        Raises:
            InputError: cells whose parameters give no conductance (negative, or not finite).
        """
        if not self.parameters:
            return Outcome(conductances, {})
        xp = array_namespace(conductances)
        nominal, voltage = self.cells.device, self.cells.reference_voltage
        states = nominal.state_for(Population(self.cells).held(conductances).conductances, voltage)
        if isinstance(nominal, DynamicDevice):
            states = xp.clip(states, min=0.0, max=1.0)  # rounding may lead out
        found = self.device.conductance(states, voltage) + 0 * conductances
        bad = ~((found >= 0) & xp.isfinite(found))
        if bool(xp.any(bad)):
            raise InputError(
                f"a spread of parameters leaves {int(xp.count_nonzero(bad))} cells without a conductance",
                where=", ".join(self.parameters),
                limit="0 S or more, finite",
                hint="Make the spread smaller, or truncate it.",
            )
        return Outcome(found, {})


def conductance_bounds(device: Device, reference_voltage: float, like: Array) -> tuple[Array, Array]:
    """Least and largest I/V [S] of a device, or of every device of a population of the shape of `like`."""
    varied = [value for name in type(device).model_fields if is_array_api_obj(value := getattr(device, name))]
    if not varied:
        return device.conductance_range(reference_voltage)
    xp = array_namespace(like)
    if isinstance(device, DynamicDevice):
        ends = tuple(device.conductance(end + 0 * like, reference_voltage) for end in (0.0, 1.0))
    else:
        ends = tuple(end + 0 * like for end in device.conductance_range(reference_voltage))
    return xp.minimum(*ends), xp.maximum(*ends)


def _ceiling(xp: object, highest: Array, like: Array) -> Array:
    """`highest` as an array like `like`; 0 * infinity would be no number."""
    if is_array_api_obj(highest):
        return highest
    return array_namespace(like).full_like(like, highest)
