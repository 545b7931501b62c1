"""What the device contract must know of a device: the object, and its equations written a second time.

`members_*.py` beside this file hold dicts `DEVICES` of them; the contract test runs on all of these.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mdls_cosim.devices import Device, DynamicDevice
from mdls_cosim.spice import Deck, format_number

RATE_VOLTAGES = (-3.1, -1.5, -1.2, -0.11, -0.05, 0.0, 0.19, 0.3, 0.31, 0.9)


@dataclass(frozen=True)
class Member:
    device: Device
    equation: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(voltage, state) -> current at 300 K, written independently; the arguments broadcast."""
    states: tuple[float, ...]
    """That of least conductance first."""
    conductances: tuple[float, ...]
    """Some that it can show [S], rising."""
    opens: bool = True
    """The first state carries no current."""
    rate: Callable[[float, float], float] | None = None
    """dx/dt [1/s] (voltage, state) at 300 K of a DynamicDevice."""
    warm_equation: Callable[[np.ndarray, np.ndarray, float], np.ndarray] | None = None
    """(voltage, state, temperature) -> current of a `thermal` device, activation aside; None: that at 300 K."""
    warm_rate: Callable[[float, float, float], float] | None = None
    """(voltage, state, temperature) -> dx/dt; None: that at 300 K."""
    sticks: bool = False
    """At both ends the window holds the state for ever."""
    tolerance: float = 1e-9
    """Of the twin's current and rate against the equation, relative. Say why where it is larger."""
    agreement: float = 1e-12
    """Of the device's current with `equation`, relative: more where both solve an implicit equation."""
    rounding: float = 8
    """Relative difference between numpy and torch, in roundings (steep exponentials multiply theirs)."""
    rate_voltages: tuple[float, ...] = RATE_VOLTAGES
    """Where the rate is compared [V]."""
    smooth_voltages: tuple[float, ...] = (-0.83, -0.41, 0.23, 0.77)
    """Where gradients are checked [V]: away from thresholds."""
    smooth_states: tuple[float, ...] = (0.13, 0.42, 0.81)
    """Where gradients of a DynamicDevice are checked: away from kinks."""


def twin(device: Device, state: float, temperature: float = 300.0, speed: float | None = None) -> Deck:
    """One cell between a source and ground; a state that moves is held, and its rate read."""
    own = device.spice_parameters(np.asarray(state), temperature) | ({} if speed is None else {"speed": speed})
    parameters = " ".join(f"{name}={format_number(float(value))}" for name, value in own.items())
    moves = isinstance(device, DynamicDevice)
    pins = ("out in" if device.reversed else "in out") + (" state" if moves else "")
    held = (f"Vstate state 0 {format_number(state)}",) if moves else ()
    return Deck(
        title="one cell",
        elements=("Vin in 0 0", f"Xcell {pins} {device.spice_model} {parameters}", "Vout out 0 0", *held),
        models=(device.spice_model,),
        sources=("Vin",),
        probes=("i(vout)", *(("i(vstate)",) if moves else ())),
        balance=("vin", "vout"),
    )
