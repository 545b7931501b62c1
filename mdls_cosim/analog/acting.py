"""Which effects of a hardware's variability act in a network, and which cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mdls_cosim.devices import Device, DynamicDevice
from mdls_cosim.devices.variability import (
    CycleToCycle,
    DeviceToDevice,
    Drift,
    Effect,
    Endurance,
    Lognormal,
    Normal,
    OwnRetention,
    ProgrammingError,
    ReadDisturb,
    ReadNoise,
    Samples,
    Stuck,
    Variability,
)
from mdls_cosim.devices.variability.device_to_device import CONDUCTANCE
from mdls_cosim.devices.variability.own_motion import OwnMotion
from mdls_cosim.devices.variability.population import conductance_bounds
from mdls_cosim.errors import ConfigError, DomainError, InputError

if TYPE_CHECKING:
    from mdls_cosim.analog.hardware import Hardware

_STATES = 9
"""Conductances at which a device is looked at, over the range of the weights."""
_SHARES = np.array([-1.0, -0.5, -0.1, 0.1, 0.5, 1.0])
"""Of the read voltage: where currents are looked at."""
_WARMER = 350.0
"""Temperature [K] at which currents are looked at, where the tile is at room temperature."""
_SAME = 1e-12
"""Relative difference below which two numbers are the same but for rounding."""
_LEAST_SPREAD = 0.3
"""Of a factor: a spread of zero, as the first value of a sweep, is taken to act as a larger one would."""


class Acting(NamedTuple):
    """The effects that act, and what is left out."""

    variability: Variability
    left_out: tuple[str, ...]
    """Effects of a parameter set that cannot act here, and those whose values change nothing, each with the reason."""
    spreads_shape: bool
    """Whether I-V curves differ in shape from cell to cell: tiles are then computed with a device in every cell."""


def acting(hardware: Hardware) -> Acting:
    """The effects of `hardware.variability` that act in a network on this hardware.

    Effects of a parameter set that cannot act are left out and named; one that was configured is an error.

    Raises:
        ConfigError: a configured effect that cannot act, by name.
    """
    configured = hardware.variability
    kept, left_out = [], []
    for effect in configured.effects:
        reason = _why_not(effect, hardware)
        if reason is None:
            kept.append(effect)
            if (idle := _why_idle(effect, hardware)) is not None:
                left_out.append(f"{_name(effect)} ({idle})")
        elif effect.stream_name in configured.from_set:
            left_out.append(f"{_name(effect)} ({reason})")
        else:
            raise ConfigError(
                "an effect that cannot act here", where="variability.effects", value=_name(effect), limit=reason
            )
    if hardware.cycles and not any(isinstance(each, Endurance) for each in configured.effects):
        left_out.append("cycles (no effect endurance in variability: cells are as new)")
    variability = configured if len(kept) == len(configured.effects) else Variability(effects=tuple(kept))
    return Acting(variability, tuple(left_out), _spreads_shape(hardware, variability))


def acts_warm(hardware: Hardware, temperature: float) -> bool:
    """Whether anything of a network on this hardware depends on its temperature [K]."""
    spec, device = hardware.spec, hardware.spec.device
    for effect in hardware.acting.variability.effects:
        if getattr(effect, "activation_energy", 0.0):
            return True
        if isinstance(effect, OwnMotion) and isinstance(device, DynamicDevice) and hardware.cells is not None:
            voltage = effect.constant_voltage(hardware.cells)
            if _differ(_rates(device, voltage, hardware), _rates(device, voltage, hardware, temperature)):
                return True
    if hardware.rung == "ideal":
        return False
    if device is None or spec.replace(temperature=temperature).wire_factor != spec.wire_factor:
        return True
    voltages, states = (hardware.read_voltage * _SHARES)[:, None], _states(hardware)
    currents = (device.current(voltages, states, kelvin) for kelvin in (spec.temperature, temperature))
    return _differ(*currents)


def _spreads_shape(hardware: Hardware, variability: Variability) -> bool:
    """Of a spread of a parameter of devices that are not ohmic."""
    device = hardware.spec.device
    return (
        device is not None
        and not device.linear
        and hardware.rung != "ideal"
        and any(_moves_reads(each, hardware) for each in variability.effects if _of_parameter(each))
    )


def _name(effect: Effect) -> str:
    return effect.stream_name.replace("/", " of ")


def _of_parameter(effect: Effect) -> bool:
    return isinstance(effect, DeviceToDevice) and effect.parameter != CONDUCTANCE


def _why_not(effect: Effect, hardware: Hardware) -> str | None:
    """Why an effect changes no number of a network on this hardware; None where it does."""
    if isinstance(effect, CycleToCycle):
        if effect.quantity == "step":
            return "it acts on pulses, which a network does not simulate; take programming_error for writes"
        if not _motions(hardware):
            return "it acts on the motion of the state: with own_retention or read_disturb"
        return None
    if isinstance(effect, OwnMotion):
        return _why_at_rest(effect, hardware)
    if isinstance(effect, DeviceToDevice) and effect.parameter != CONDUCTANCE:
        return _why_no_spread(effect, hardware)
    return None


def _why_at_rest(effect: OwnMotion, hardware: Hardware) -> str | None:
    device, cells = hardware.spec.device, hardware.cells
    if device is None or cells is None:
        return "it acts on devices of this package, and the cell is a subcircuit"
    if not isinstance(device, DynamicDevice):
        return f"{device.kind} has no rate equation; take retention or drift"
    voltage = effect.constant_voltage(cells)
    if not _rates(device, voltage, hardware).any():
        return f"{device.kind} does not move at {voltage:g} V"
    return None


def _why_no_spread(effect: DeviceToDevice, hardware: Hardware) -> str | None:
    device = hardware.spec.device
    if device is None:
        return "it acts on devices of this package, and the cell is a subcircuit"
    try:
        device.varied({effect.parameter: 1.0})
    except InputError as error:
        return f"a parameter of {type(device).__name__}: {error.limit}"
    if not getattr(device, effect.parameter):
        return f"{effect.parameter} is 0, which a factor does not change"
    if _moves_motion(effect, hardware):
        return None
    moves_reads = _moves_reads(effect, hardware)
    if not moves_reads:
        switching = isinstance(device, DynamicDevice) and not _motions(hardware)
        more = "; what it does to switching needs own_retention or read_disturb" if switching else ""
        return f"it changes no read of {device.kind} on rung {hardware.rung}{more}"
    if not device.linear and hardware.rung != "ideal" and not hardware.takes_devices:
        return f"rung {hardware.rung} knows one device for all cells; take rung nodal"
    return None


def _why_idle(effect: Effect, hardware: Hardware) -> str | None:
    """Why the values of an effect that may act let it change nothing, as the zero at the start of a sweep."""
    zero = "all its values are 0"
    match effect:
        case Endurance():
            if not hardware.cycles:
                return "Hardware.cycles is 0: the cells are new"
            return None if effect.closing or effect.lifetime is not None else zero
        case ProgrammingError():
            bounds = bool(effect.minimum) or effect.maximum is not None
            return None if bounds or effect.relative or effect.absolute or any(effect.polynomial) else zero
        case Stuck():
            return None if effect.on or effect.off else zero
        case Drift():
            return None if effect.exponent or effect.exponent_spread else zero
        case ReadNoise():
            if hardware.read_noise == "off":
                return "Hardware.read_noise is off"
            flickers = effect.flicker is not None and effect.flicker.strength
            return None if effect.relative or effect.absolute or flickers else zero
        case ReadDisturb():
            return None if effect.reads and effect.read_time else "no read has been made: reads or read_time is 0"
        case _:
            return None


def _motions(hardware: Hardware) -> list[OwnMotion]:
    """The effects of motion that act."""
    motions = [each for each in hardware.variability.effects if isinstance(each, OwnRetention | ReadDisturb)]
    return [each for each in motions if _why_at_rest(each, hardware) is None]


def _moves_motion(effect: DeviceToDevice, hardware: Hardware) -> bool:
    """Whether a spread changes the rate of the state at a voltage of an effect of motion."""
    device, cells = hardware.spec.device, hardware.cells
    assert device is not None
    assert cells is not None
    for motion in _motions(hardware):
        voltage = motion.constant_voltage(cells)
        nominal = _rates(device, voltage, hardware)
        if any(_differ(_rates(each, voltage, hardware), nominal) for each in _samples(effect, device)):
            return True
    return False


def _moves_reads(effect: Effect, hardware: Hardware) -> bool:
    """Whether a spread of a parameter changes what a read finds on the rung of the hardware."""
    device = hardware.spec.device
    assert device is not None
    assert isinstance(effect, DeviceToDevice)
    spec, targets = hardware.spec, _targets(hardware)
    reference, states = spec.reference_voltage, _states(hardware)
    nominal = device.conductance(states, reference) + 0 * states
    kelvins = [spec.temperature, _WARMER if spec.temperature == 300.0 else spec.temperature]
    for varied in _samples(effect, device):
        lowest, highest = conductance_bounds(varied, reference, targets)
        if np.any(targets < lowest * (1 - _SAME)) or np.any(targets > highest * (1 + _SAME)):
            return True
        if _differ(varied.conductance(states, reference) + 0 * states, nominal):
            return True
        if hardware.rung == "ideal":  # I = V G, whatever the curve and the temperature
            continue
        voltages = (hardware.read_voltage * _SHARES)[:, None]
        for kelvin in kelvins:
            try:
                if _differ(varied.current(voltages, states, kelvin), device.current(voltages, states, kelvin)):
                    return True
            except DomainError:  # the device is not known at this temperature
                continue
    return False


def _samples(effect: DeviceToDevice, device: Device) -> list[Device]:
    """Devices with large and small values of the parameter; all cells of one have the same."""
    distribution, nominal = effect.distribution, getattr(device, effect.parameter)
    match distribution:
        case Samples():
            factors = {min(distribution.values), max(distribution.values)} - {1.0} or {0.9, 1.1}
        case Lognormal():
            most = min(max(3 * distribution.sigma, _LEAST_SPREAD), 5.0)
            factors = {float(np.exp(most)), float(np.exp(-most))}
        case Normal():
            most = min(max(3 * distribution.sigma, _LEAST_SPREAD), 0.9)
            factors = {1 + most, 1 - most}
        case _:  # refused by DeviceToDevice
            factors = set()
    return [device.varied({effect.parameter: np.asarray(nominal * factor)}) for factor in sorted(factors)]


def _targets(hardware: Hardware) -> np.ndarray:
    """Conductances [S] over the range of the weights, as far as the device shows them."""
    assert hardware.spec.device is not None
    lowest, highest = hardware.spec.device.conductance_range(hardware.spec.reference_voltage)
    return np.clip(np.linspace(*hardware.conductance_range, _STATES), lowest, highest)


def _states(hardware: Hardware) -> np.ndarray:
    device = hardware.spec.device
    assert device is not None
    states = np.asarray(device.state_for(_targets(hardware), hardware.spec.reference_voltage), dtype=np.float64)
    return np.clip(states, 0.0, 1.0) if isinstance(device, DynamicDevice) else states


def _rates(device: Device, voltage: float, hardware: Hardware, temperature: float | None = None) -> np.ndarray:
    """dx/dt [1/s] at `voltage` [V] of the states of the weights' range, and of all; None: at the tile's temperature."""
    assert isinstance(device, DynamicDevice)
    states = np.concatenate([_states(hardware), np.linspace(0.0, 1.0, _STATES)])
    rates = device.state_rate(np.full(states.shape, voltage), states, temperature or hardware.spec.temperature)
    return np.broadcast_to(np.asarray(rates, dtype=np.float64), states.shape)


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays differ by more than rounding, or where one is not finite."""
    one, other = np.broadcast_arrays(one, other)
    return not np.allclose(one, other, rtol=_SAME, atol=0.0, equal_nan=True)
