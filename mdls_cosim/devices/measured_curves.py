"""A cell that is known by measured or simulated I-V curves alone."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from array_api_compat import device as array_device
from pydantic import Field, model_validator

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, Device, arrays, namespace
from mdls_cosim.devices.bounded import bounded_exp
from mdls_cosim.errors import ConfigError, NotAvailable
from mdls_cosim.quantities import Unit

Curve = Annotated[tuple[float, ...], Field(min_length=2)]

# Points between two of a curve at which it must rise.
_BETWEEN = 8
# Of the largest voltage: points nearer to 0 V tell nothing of I/V.
_NEAREST = 1e-6


class MeasuredCurves(Device):
    """Curves between which the logarithm of the conductance goes smoothly.

        I = G V e^r(V, ln G),      r a bicubic spline through ln I/(G V)

    The state is the programmed conductance G [S], what I/V of a curve is at the tile's reference voltage, whichever
    that is. Beyond the voltages of the curves r goes on along its tangent where that leads up, else level; the
    conductances are limited to theirs. The curves hold at the temperature that they were taken at. Every curve has to
    rise with the voltage, which is checked; a point at 0 V is not looked at. It leaves out all that is not static, and
    has no SPICE twin: where the curves come from a subcircuit, that is the twin.
    """

    model: Literal["measured_curves"] = "measured_curves"
    conductances: Annotated[Curve, Unit("siemens")]
    """G of each curve, rising [S]."""
    voltages: Annotated[tuple[float, ...], Unit("volt"), Field(min_length=6)]
    """Of the points, rising [V]."""
    currents: Annotated[tuple[Curve, ...], Unit("ampere"), Field(min_length=2)]
    """Of each curve at each of the voltages [A]."""

    spice_model: ClassVar[str] = "measured_curves"

    @model_validator(mode="after")
    def _check(self) -> Self:
        table = [np.array(each, dtype=np.float64) for each in (self.conductances, self.voltages)]
        for name, values in zip(("conductances", "voltages"), table, strict=True):
            if not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
                raise ConfigError("values that do not rise", where=name, limit="each above the one before")
        if table[0][0] <= 0:
            raise ConfigError("an impossible value", where="conductances", value=table[0][0], limit="above 0 S")
        shape = (len(self.conductances), len(self.voltages))
        if any(len(curve) != shape[1] for curve in self.currents) or len(self.currents) != shape[0]:
            raise ConfigError("currents of another shape than the curves", where="currents", limit=f"{shape}")
        currents = np.array(self.currents)
        if not (currents * table[1] > 0)[:, _telling(table[1])].all():
            raise ConfigError(
                "currents against their voltage", where="currents", limit="the sign of the voltage, and not zero"
            )
        fine = np.interp(np.arange(_BETWEEN * (shape[1] - 1) + 1) / _BETWEEN, np.arange(shape[1]), table[1])
        middle = np.sqrt(table[0][1:] * table[0][:-1])
        for conductance in np.sort(np.concatenate([table[0], middle])):
            if not (np.diff(self._current(fine, conductance, ROOM_TEMPERATURE)) > 0).all():
                raise ConfigError(
                    "a current that falls with the voltage",
                    where="currents",
                    value=f"near {conductance:.4g} S",
                    limit="curves that rise, and enough points that they do between them too",
                )
        return self

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        voltage, state = arrays(voltage, state)
        xp = namespace(voltage, state)
        patches = _patches(self.conductances, self.voltages, self.currents)
        levels, knots, patches = (_like(xp, each, voltage) for each in patches)
        inside = xp.minimum(xp.maximum(voltage, knots[0]), knots[-1])
        near = xp.minimum(xp.maximum(xp.log(state), levels[0]), levels[-1])
        column = _patch(xp, knots, inside)
        row = _patch(xp, levels, near)
        t, u = inside - _taken(xp, knots, column), (near - _taken(xp, levels, row))[..., None]
        patch = column * (len(self.conductances) - 1) + row
        found = xp.reshape(_taken(xp, patches, patch), (*patch.shape, 4, 4))
        by_power = found[..., 0] + u * (found[..., 1] + u * (found[..., 2] + u * found[..., 3]))
        level = by_power[..., 0] + t * (by_power[..., 1] + t * (by_power[..., 2] + t * by_power[..., 3]))
        tangent = by_power[..., 1] + t * (2 * by_power[..., 2] + 3 * t * by_power[..., 3])
        # Outwards of the curves, on either side.
        level = level + xp.maximum(tangent * xp.sign(voltage), 0 * tangent) * xp.abs(voltage - inside)
        return self.activated(state * voltage * bounded_exp(level), temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        return state

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        return conductance

    def _conductance_range(self, reference_voltage: float) -> tuple[float, float]:
        return self.conductances[0], self.conductances[-1]

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        raise NotAvailable(
            "cells that are known by their curves alone have no SPICE circuit",
            hint="Simulate the tile that the curves were taken from.",
        )


def _telling(voltages: np.ndarray) -> np.ndarray:
    """Which points tell something of I/V."""
    return np.abs(voltages) > _NEAREST * np.abs(voltages).max()


@lru_cache(maxsize=64)
def _patches(
    conductances: Curve, voltages: tuple[float, ...], currents: tuple[Curve, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Knots of ln G and of V, and the polynomial of each patch, (patches of V x of ln G, 16): by powers of V, then of
    ln G."""
    from scipy.interpolate import CubicSpline, make_interp_spline  # slow to import, and needed for these cells alone

    telling = _telling(np.array(voltages))
    knots, levels = np.array(voltages)[telling], np.log(conductances)
    logarithm = np.log(np.array(currents)[:, telling] / (np.array(conductances)[:, None] * knots))
    along = CubicSpline(knots, logarithm, axis=1).c[::-1]  # (power, patch, G)
    across = make_interp_spline(levels, along, k=min(3, len(levels) - 1), axis=2)
    steps = [(across.derivative(order) if order else across)(levels[:-1]) for order in range(across.k + 1)]
    powers = np.zeros((4, *steps[0].shape))  # (of ln G, of V, patch of V, patch of ln G)
    powers[: len(steps)] = [each / math.factorial(order) for order, each in enumerate(steps)]
    return levels, knots, powers.transpose(2, 3, 1, 0).reshape(-1, 16)


def _like(xp: Any, table: np.ndarray, values: Array) -> Array:
    return xp.asarray(table, dtype=values.dtype, device=array_device(values))


def _taken(xp: Any, table: Array, places: Array) -> Array:
    """Rows of a table, of places of any shape."""
    found = xp.take(table, xp.reshape(places, (-1,)), axis=0)
    return xp.reshape(found, (*places.shape, *table.shape[1:]))


def _patch(xp: Any, knots: Array, values: Array) -> Array:
    """Index of the patch of each value."""
    place = xp.reshape(xp.searchsorted(knots, xp.reshape(values, (-1,)), side="right"), values.shape) - 1
    return xp.minimum(xp.maximum(place, 0 * place), 0 * place + knots.shape[0] - 2)
