"""What is said of the cells of a hardware: effects of their parameter set, lifetime of their state, and warnings."""

from __future__ import annotations

from pathlib import Path

from mdls_cosim.analog.acting import acts_warm
from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.devices.lifetime import Lifetime, duration_text, lifetime_warnings, lifetimes
from mdls_cosim.devices.variability import OwnRetention, ReadDisturb
from mdls_cosim.devices.variability.effect import ReadingEffect


def cell_lines(hardware: Hardware, time: float = 0.0, temperature: float | None = None) -> list[str]:
    """Sentences about the cells of one hardware.

    Args:
        hardware: the tile, its cells and their effects.
        time: latest time since the programming at which it is read [s]; 0: not known.
        temperature: at which it is read [K]; None: that of the tile.
    """
    return [*_effect_lines(hardware), *_lifetime_lines(hardware), *cell_warnings(hardware, time, temperature)]


def cell_warnings(hardware: Hardware, time: float = 0.0, temperature: float | None = None) -> list[str]:
    """Sentences that begin with "warning": motion of the state that no effect computes; a time, or a temperature, at
    which nothing changes."""
    effects = hardware.acting.variability.effects
    motions = {type(effect) for effect in effects}
    moves = [
        each for each in hardware_lifetimes(hardware) if (ReadDisturb if each.voltage else OwnRetention) not in motions
    ]
    lines = [f"warning: {each}" for each in lifetime_warnings(moves)]
    in_time = [each for each in effects if isinstance(each, ReadingEffect) and not isinstance(each, ReadDisturb)]
    if time and not in_time:
        lines.append(
            f"warning: {duration_text(time)} after the programming nothing has changed: no effect of time in "
            "hardware.variability (drift, retention, own_retention)"
        )
    if temperature is not None and temperature != hardware.spec.temperature and not acts_warm(hardware, temperature):
        lines.append(
            f"warning: at {temperature:g} K nothing has changed: nothing of this hardware on rung {hardware.rung} "
            "depends on the temperature (activation_energy of the cell or of an effect, wire_temperature_coefficient)"
        )
    return lines


def hardware_lifetimes(hardware: Hardware) -> list[Lifetime]:
    """Of the device in the cells, at 0 V and at plus and minus the read voltage; empty without a rate equation."""
    return lifetimes(hardware.spec.device, hardware.read_voltage, hardware.spec.temperature)


def _effect_lines(hardware: Hardware) -> list[str]:
    variability, device = hardware.variability, hardware.spec.device
    acting = [effect.stream_name for effect in hardware.acting.variability.effects]
    of_set = [name.replace("/", " of ") for name in acting if name in variability.from_set]
    lines = []
    if of_set:
        origin = None if device is None else device.origin
        named = "the parameter set" if origin is None else f"the parameter set {Path(origin.name).stem}"
        lines.append(f"effects of {named}: {', '.join(of_set)}")
    lines += [f"left out: {each}" for each in hardware.left_out]
    return lines


def _lifetime_lines(hardware: Hardware) -> list[str]:
    found = hardware_lifetimes(hardware)
    device = hardware.spec.device
    if not found or device is None:
        return []
    return [f"{device.kind}: {'; '.join(map(str, found))} ({hardware.spec.temperature:g} K)"]
