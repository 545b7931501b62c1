"""The kind of hysteresis: bipolar switching, volatile switching, a capacitor, none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate import Loop, Setup, read_measurement
from mdls_cosim.calibrate.loops import fit_loops
from mdls_cosim.calibrate.switching import switching
from mdls_cosim.errors import InputError

CASES = Path(__file__).parents[2] / "cases/circuit"
TIMES = np.arange(400) / 400
VOLTAGES = np.concatenate([np.linspace(a, b, 100, endpoint=False) for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))])
RISING = np.repeat([True, False, True, False], 100)


def loop(currents: np.ndarray) -> Loop:
    return Loop("loop", TIMES, VOLTAGES, currents)


def test_a_volatile_device_is_named_with_its_areas() -> None:
    for option in ("auto", "none"):
        (measured,), _ = read_measurement(CASES / "D15-volatile.csv", Setup(compliance=option))
        assert isinstance(measured, Loop)
        found = switching(measured)
        # 1 uA on the way down between 0.1 and 0.4 V or so, each side: 12.9 % of 2 uA x 1.2 V.
        assert found.above == pytest.approx(-0.129, abs=0.0005)
        assert found.below == pytest.approx(-0.129, abs=0.0005)
        assert found.volatile
        with pytest.raises(InputError, match=r"volatile.*12\.9%.*V > 0, 12\.9%.*V < 0.*off near 0 V") as caught:
            fit_loops([measured], "vteam")
        assert len(str(caught.value)) <= 300


def test_kinds_of_loops() -> None:
    on = np.where(RISING, 0.1, 1.0) * VOLTAGES  # on at the end of each side
    assert switching(loop(on)).volatile
    bipolar = np.where((VOLTAGES >= 0) == RISING, 0.1, 1.0) * VOLTAGES
    assert switching(loop(bipolar)).present
    assert switching(loop(bipolar)).sign == 1
    assert switching(loop(-np.flip(bipolar))).present
    charging = VOLTAGES + 0.1 * np.gradient(VOLTAGES, TIMES)
    found = switching(loop(charging))
    assert found.capacitive
    assert not found.present
    ohmic = switching(loop(VOLTAGES))
    assert (ohmic.present, ohmic.volatile, ohmic.capacitive) == (False, False, False)
    for currents, message in ((charging, "charging current"), (VOLTAGES, "does not switch")):
        with pytest.raises(InputError, match=message):
            fit_loops([loop(currents)], "vteam")


def test_a_bipolar_device_with_some_volatile_part_is_fitted() -> None:
    bipolar = np.where((VOLTAGES >= 0) == RISING, 0.1, 1.0) * VOLTAGES
    part = switching(loop(bipolar + 0.2 * np.where(RISING, 0.1, 1.0) * VOLTAGES))
    assert part.present
    assert not part.volatile
