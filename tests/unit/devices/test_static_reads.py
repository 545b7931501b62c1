"""PassiveTio2, PolynomialRead and PhaseChange: what the device contract does not ask."""

import numpy as np
import pytest
import torch

from mdls_cosim.devices import PassiveTio2, PhaseChange, PolynomialRead
from mdls_cosim.devices.parameter_files import parameter_set_names, read_parameter_file, read_parameters
from mdls_cosim.devices.variability import DeviceToDevice, PolynomialSpread, Variability
from mdls_cosim.errors import ConfigError, DomainError

NOMINAL = np.linspace(5e-6, 100e-6, 20)
MULTILEVEL = np.linspace(50e-6, 225e-6, 200)


class TestPassiveTio2:
    def test_its_temperature_is_in_celsius(self):
        """At 25 degC the small-signal conductance is the nominal one within 5 % or 0.4 uS; in kelvin it would be 32 uS
        above it."""
        linear, _ = PassiveTio2().coefficients(NOMINAL, 298.15)
        assert np.all(np.abs(linear - NOMINAL) < np.maximum(0.05 * NOMINAL, 0.4e-6))

    def test_the_cubic_term_is_that_of_a_thin_oxide(self):
        """A sinh of 1 - 10 /V has A3/A1 = a^2/6: 0.2 - 17 /V^2."""
        linear, cubic = PassiveTio2().coefficients(NOMINAL)
        assert np.all((cubic / linear > 0.2) & (cubic / linear < 17))

    def test_it_conducts_more_when_warm(self):
        device = PassiveTio2()
        currents = [device.current(np.array(0.1), NOMINAL, temperature) for temperature in (300.0, 330.0, 360.0)]
        assert np.all(np.diff(currents, axis=0) > 0)

    @pytest.mark.parametrize("temperature", [250.0, 290.0, 374.0, 0.0, float("nan")])
    def test_other_temperatures_are_refused(self, temperature: float):
        device = PassiveTio2()
        with pytest.raises(DomainError, match="temperature"):
            device.current(np.array(0.1), NOMINAL, temperature)
        with pytest.raises(DomainError, match="temperature"):
            device.spice_parameters(NOMINAL, temperature)
        with pytest.raises(DomainError, match="temperature"):
            device.variability(temperature)

    def test_the_ends_of_the_temperatures_are_not(self):
        for temperature in (25 + 273.15, 298.15, 373.15):
            assert np.all(np.isfinite(PassiveTio2().current(np.array(0.1), NOMINAL, temperature)))

    @pytest.mark.parametrize("temperature", [300.0, 360.0])
    def test_its_spread_is_the_papers(self, temperature: float):
        """sigma(A1) in the nominal conductance, against the polynomial of the conductance that it was made into."""
        celsius = temperature - 273.15
        expected = -1.07e-6 + 0.25 * NOMINAL + 2.2e-8 * celsius - 1300 * NOMINAL**2
        (effect,) = PassiveTio2().variability(temperature).effects
        assert isinstance(effect, DeviceToDevice)
        assert isinstance(effect.distribution, PolynomialSpread)
        linear, _ = PassiveTio2().coefficients(NOMINAL, temperature)
        np.testing.assert_allclose(effect.distribution.sigma(linear), expected, rtol=1e-12)

    def test_its_range_is_that_of_its_states(self):
        device = PassiveTio2(lowest_conductance=2e-6, highest_conductance=50e-6)
        low, high = device.conductance_range(0.2)
        np.testing.assert_allclose(device.state_for(np.array([low, high]), 0.2), [2e-6, 50e-6], rtol=1e-13)
        with pytest.raises(ConfigError, match="highest_conductance"):
            PassiveTio2(lowest_conductance=2e-6, highest_conductance=2e-6)


class TestPolynomialRead:
    def test_the_powers_are_in_the_right_order(self):
        """Highest power first and siemens: a part of the current that fades as the cell conducts more. Any other
        reading of the coefficients gives terms hundreds of times the current."""
        device = PolynomialRead()
        volts = 0.5
        excess = device.conductance(MULTILEVEL, volts) / MULTILEVEL - 1
        assert np.all(np.abs(excess) < 0.4)
        assert abs(excess[-1]) < 0.01
        assert abs(excess[0]) > 0.2
        for swapped in (device.quadratic[::-1], device.quadratic):
            at = np.log10(MULTILEVEL * (1e6 if swapped == device.quadratic else 1))
            assert np.all(np.abs(np.polyval(swapped, at)) * volts / MULTILEVEL > 10)

    def test_the_current_rises_with_voltage_over_the_whole_fit(self):
        volts = np.linspace(-0.5, 0.5, 201)[:, None]
        assert np.all(np.diff(PolynomialRead().current(volts, MULTILEVEL), axis=0) > 0)

    @pytest.mark.parametrize("reference_voltage", [-0.5, -0.3, 0.1, 0.5])
    def test_the_conductance_rises_with_the_state_over_the_whole_fit(self, reference_voltage: float):
        shown = PolynomialRead().conductance(np.linspace(50e-6, 225e-6, 20001), reference_voltage)
        assert np.all(np.diff(shown) > 0)
        assert PolynomialRead().conductance_range(reference_voltage) == pytest.approx((shown[0], shown[-1]))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_the_inverse_holds_to_the_last_digits(self, dtype: torch.dtype):
        device = PolynomialRead()
        for reference_voltage in (-0.5, -0.2, 0.2, 0.5):
            states = torch.linspace(50e-6, 225e-6, 1001, dtype=dtype)
            found = device.state_for(device.conductance(states, reference_voltage), reference_voltage)
            # I/V rises only a seventh as fast as the state where the fit is steepest.
            torch.testing.assert_close(found, states, rtol=60 * torch.finfo(dtype).eps, atol=0)

    def test_its_inverse_has_the_inverse_gradient(self):
        device = PolynomialRead()
        shown = torch.tensor([0.6, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda scaled: 1e4 * device.state_for(1e-4 * scaled, -0.3), (shown,))

    def test_outside_of_the_fit_it_keeps_the_form_of_its_end(self):
        device = PolynomialRead()
        volts = np.linspace(-0.5, 0.5, 11)
        low, high = (device.current(volts, np.array(end)) for end in (50e-6, 225e-6))
        np.testing.assert_allclose(device.current(volts, np.array(5e-6)), low / 10, rtol=1e-13, atol=1e-22)
        np.testing.assert_allclose(device.current(volts, np.array(450e-6)), 2 * high, rtol=1e-13, atol=1e-22)
        assert np.all(device.current(volts, np.array(0.0)) == 0)
        outside = np.array([0.0, 1e-9, 5e-6, 450e-6])
        for reference_voltage in (0.0, -0.4, 0.4):
            shown = device.conductance(outside, reference_voltage)
            np.testing.assert_allclose(device.state_for(shown, reference_voltage), outside, rtol=1e-13)

    @pytest.mark.parametrize("reference_voltage", [-0.51, 0.6])
    def test_reference_voltages_beyond_the_fit_are_refused(self, reference_voltage: float):
        with pytest.raises(DomainError, match="reference_voltage"):
            PolynomialRead().state_for(MULTILEVEL, reference_voltage)
        with pytest.raises(DomainError, match="reference_voltage"):
            PolynomialRead().conductance_range(reference_voltage)

    def test_impossible_ones_are_refused(self):
        with pytest.raises(ConfigError, match="highest_conductance"):
            PolynomialRead(lowest_conductance=1e-4, highest_conductance=5e-5)
        with pytest.raises(ConfigError, match="quadratic"):
            PolynomialRead(quadratic=())
        with pytest.raises(ConfigError, match="unit"):
            PolynomialRead.from_text_dict({"cubic": [8.8e-5]})


def test_phase_change_conducts_up_to_its_highest_conductance():
    assert PhaseChange(highest_conductance=40e-6).conductance_range(0.2) == (0.0, 40e-6)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("passive_tio2_nili", PassiveTio2()),
        ("polynomial_read_milo", PolynomialRead()),
        ("phase_change_nandakumar", PhaseChange()),
    ],
)
def test_the_defaults_are_the_parameter_sets(name: str, device: PassiveTio2 | PolynomialRead | PhaseChange):
    assert type(device).from_text_dict(read_parameters(name)) == device


def test_every_table_of_variability_reads():
    names = [name for name in parameter_set_names() if "variability" in read_parameter_file(name)]
    assert {"passive_tio2_nili", "polynomial_read_milo", "phase_change_nandakumar", "ohmic_wan"} <= set(names)
    for name in names:
        assert Variability.from_parameters(name).effects


def test_the_tables_of_variability_are_those_of_the_devices():
    assert Variability.from_parameters("phase_change_nandakumar") == PhaseChange().variability()
    (stored,), (own,) = (
        found.effects for found in (Variability.from_parameters("passive_tio2_nili"), PassiveTio2().variability())
    )
    assert isinstance(stored, DeviceToDevice)
    assert isinstance(own, DeviceToDevice)
    assert isinstance(stored.distribution, PolynomialSpread)
    assert isinstance(own.distribution, PolynomialSpread)
    linear, _ = PassiveTio2().coefficients(NOMINAL)
    np.testing.assert_allclose(stored.distribution.sigma(linear), own.distribution.sigma(linear), rtol=1e-6)


def test_a_wider_phase_change_cell_scales_all_of_its_variability():
    (narrow, wide) = (PhaseChange(highest_conductance=high).variability() for high in (25e-6, 50e-6))
    targets = np.linspace(0, 25e-6, 1000)
    first = narrow.programmed(targets, (0.0, 25e-6), seed=3).conductances
    second = wide.programmed(2 * targets, (0.0, 50e-6), seed=3).conductances
    np.testing.assert_allclose(second, 2 * first, rtol=1e-12)
    first = narrow.at(first, (0.0, 25e-6), seed=3, time=1e5).conductances
    second = wide.at(second, (0.0, 50e-6), seed=3, time=1e5).conductances
    np.testing.assert_allclose(second, 2 * first, rtol=1e-12)
