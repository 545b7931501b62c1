"""The sign of measured currents: positive with a positive voltage."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mdls_cosim.errors import InputError

Sign = Literal["keep", "reverse", "voltage"]

_LEAST_SHARE = 0.9
"""Of the points that must agree before the sign counts as wrong."""
_LEAST_POINTS = 8
_AWAY = 0.2
"""Share of the largest voltage from which on a point counts."""
_OFFSET = 1e-3
"""Share of the largest current below which a point does not count: an offset has any sign."""


def signed_currents(currents: np.ndarray, voltages: np.ndarray, sign: Sign = "keep", where: str = "") -> np.ndarray:
    """Currents [A] with the sign that a passive device has.

    Args:
        currents: of any shape [A]; NaN where there is none.
        voltages: of the same shape [V].
        sign: "keep" them; "reverse" those of an instrument that counts them out of the device; or take the sign of
            the "voltage", where magnitudes were written.
        where: the file, for messages.

    Raises:
        InputError: nearly all kept currents are against their voltages, or have one sign at both polarities.
    """
    if sign == "reverse":
        return -currents
    if sign == "voltage":
        return np.abs(currents) * np.where(voltages < 0, -1.0, 1.0)
    with np.errstate(invalid="ignore"):
        counted = np.abs(voltages) > _AWAY * np.max(np.abs(voltages), initial=0.0)
        counted &= np.abs(currents) > _OFFSET * np.nanmax(np.abs(currents), initial=0.0)
    against = (currents * voltages < 0) & counted
    sides = [counted & (voltages > 0), counted & (voltages < 0)]
    shares = [float(against[side].mean()) if side.sum() >= _LEAST_POINTS else None for side in sides]
    known = [share for share in shares if share is not None]
    if known and min(known) > _LEAST_SHARE:
        raise InputError(
            "currents against their voltages", where=where, value=f"{against.sum()} of {counted.sum()} points",
            limit="positive currents at positive voltages",
            hint='Where the instrument counts currents out of the device, add --current-sign reverse',
        )  # fmt: skip
    if len(known) == 2 and max(known) > _LEAST_SHARE and min(known) < 1 - _LEAST_SHARE:
        raise InputError(
            "currents of one sign at both polarities of the voltage", where=where,
            value=f"{against.sum()} of {counted.sum()} points against their voltage",
            hint="Where the instrument wrote magnitudes, add --current-sign voltage",
        )  # fmt: skip
    return currents
