"""Endurance tables: the law that drew them comes back, and what is no endurance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate import Calibration, EnduranceTable, Setup, calibrate, read_measurement
from mdls_cosim.calibrate.endurance import calibrate_endurance, fit_endurance
from mdls_cosim.devices import Ohmic
from mdls_cosim.devices.variability import Endurance
from mdls_cosim.devices.variability.effect import Programming
from mdls_cosim.devices.variability.randomness import Randomness
from mdls_cosim.errors import InputError

HIGH, LOW = 100e-6, 10e-6
LAW = Endurance(closing=0.15, onset=1e4, centre=0.3)


def measured(law: Endurance = LAW, devices: int = 1, last: float = 1e8, noise: float = 0.02, seed: int = 0):
    """A table drawn from the effect itself: written to both ends of its span."""
    cycles = np.geomspace(1, last, 60)
    rows = np.tile(cycles, devices)
    generator = np.random.default_rng(seed)
    states = []
    for target in (HIGH, LOW):
        written = np.full((devices, 60), target)
        shown = np.stack(
            [
                law.program(written[:, place], Randomness(seed), Programming((LOW, HIGH), number, 0)).conductances
                for place, number in enumerate(cycles)
            ],
            axis=1,
        )
        states.append((shown * (1 + noise * generator.standard_normal(shown.shape))).ravel())
    return EnduranceTable("endurance.csv", rows, states[0], states[1], np.repeat(np.arange(devices), 60))


@pytest.mark.parametrize(("closing", "onset", "centre"), [(0.15, 1e4, 0.3), (0.05, 1e2, 0.8), (0.3, 1e6, 0.0)])
def test_the_law_of_the_effect_is_recovered(closing: float, onset: float, centre: float) -> None:
    fit = fit_endurance(measured(Endurance(closing=closing, onset=onset, centre=centre)), bootstrap=0)
    assert fit.on == pytest.approx(HIGH, rel=0.02)
    assert fit.off == pytest.approx(LOW, rel=0.03)
    assert fit.closing == pytest.approx(closing, rel=0.15)
    assert np.log10(fit.onset) == pytest.approx(np.log10(onset), abs=0.3)
    assert fit.centre == pytest.approx(centre, abs=0.05)
    assert fit.lifetime is None
    assert fit.error < 0.03


def test_a_calibration_gives_the_effect_back() -> None:
    found = calibrate_endurance(measured(), Ohmic(), 40, 0)
    (effect,) = found.variability.effects  # pyright: ignore[reportOptionalMemberAccess]
    assert isinstance(effect, Endurance)
    programming = Programming((LOW, HIGH), 1e7, 0)
    written = np.array([HIGH, LOW])
    expected = LAW.program(written, Randomness(0), programming).conductances
    assert effect.program(written, Randomness(0), programming).conductances == pytest.approx(expected, rel=0.03)
    low, high = found.values["closing"].low, found.values["closing"].high
    assert low is not None
    assert high is not None
    assert low < 0.15 < high
    assert any("no cell failed" in note for note in found.notes)


@pytest.mark.parametrize("fails", ["on", "off"])
def test_lives_of_cells(fails: str) -> None:
    law = Endurance(lifetime=1e6, shape=1.5, fails=fails)  # pyright: ignore[reportArgumentType]
    fit = fit_endurance(measured(law, devices=60, last=5e6), bootstrap=0)
    assert fit.failed > 40
    assert fit.fails == fails
    # 60 lives, read at steps of 30 %: the scale is known to about 1/(1.5 sqrt(60)) and half a step.
    assert fit.lifetime == pytest.approx(1e6, rel=0.4)
    assert fit.shape == pytest.approx(1.5, rel=0.4)
    assert fit.closing == 0
    assert any("does not close" in note for note in fit.notes)


def test_one_failed_cell_has_an_assumed_slope() -> None:
    fit = fit_endurance(measured(Endurance(lifetime=1e5, shape=20.0, fails="off")), bootstrap=0)
    assert fit.failed == 1
    assert fit.lifetime == pytest.approx(1e5, rel=0.4)
    assert any("slope is assumed" in note for note in fit.notes)


def test_a_window_that_closes_slowly_has_not_failed() -> None:
    fit = fit_endurance(measured(Endurance(closing=0.25, onset=1e3, centre=0.5)), bootstrap=0)
    assert fit.failed == 0


@pytest.mark.parametrize("form", ["R_on (kohm),R_off (kohm)", "LRS resistance [kohm];HRS resistance [kohm]",
                                  "on conductance [uS],off conductance [uS]", "I_LRS [nA],I_HRS [nA]"])  # fmt: skip
def test_files(tmp_path: Path, form: str) -> None:
    sign = ";" if ";" in form else ","
    table = measured()
    states = {"kohm": lambda g: 1e-3 / g, "uS": lambda g: g * 1e6, "nA": lambda g: 0.1 * g * 1e9}
    convert = next(states[unit] for unit in states if unit in form)
    rows = [
        sign.join(f"{number:.9g}" for number in row)
        for row in zip(table.cycles, convert(table.on), convert(table.off), strict=True)
    ]
    path = tmp_path / "endurance.csv"
    path.write_text("\n".join([f"Cycle #{sign}{form}", *rows]))
    (found,), _ = read_measurement(path, Setup(read_voltage=0.1))
    assert isinstance(found, EnduranceTable)
    np.testing.assert_allclose(found.on, table.on, rtol=1e-6)
    np.testing.assert_allclose(found.off, table.off, rtol=1e-6)
    result = calibrate([found], bootstrap=0)
    assert result.kind == "endurance"
    result.save(tmp_path / "out.toml")
    assert Calibration.load(tmp_path / "out.toml").variability == result.variability


def test_what_cannot_be(tmp_path: Path) -> None:
    table = measured()
    with pytest.raises(InputError, match="no window between on and off"):
        fit_endurance(EnduranceTable("x", table.cycles, table.off, table.on), bootstrap=0)
    with pytest.raises(InputError, match="too few cycles"):
        fit_endurance(EnduranceTable("x", table.cycles[:4], table.on[:4], table.off[:4]), bootstrap=0)
    with pytest.raises(InputError, match="negative number of cycles"):
        EnduranceTable("x", table.cycles - 10, table.on, table.off)
    path = tmp_path / "table.csv"
    path.write_text("cycle,on resistance [ohm],off resistance [ohm]\n1,5,0\n")
    with pytest.raises(InputError, match="off resistance that is not above zero"):
        read_measurement(path)
    path.write_text("cycle,on resistance [ohm]\n1,5\n")
    with pytest.raises(InputError, match="no columns for the on and the off state"):
        read_measurement(path, Setup(kind="endurance"))
