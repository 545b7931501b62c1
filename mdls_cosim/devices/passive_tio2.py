"""The read model of integrated passive TiO2 memristors, with temperature and spread."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, Device, namespace
from mdls_cosim.devices.variability import DeviceToDevice, PolynomialSpread, Variability
from mdls_cosim.errors import DomainError
from mdls_cosim.quantities import RATIO, Quantity

SignedConductance = Annotated[float, Quantity("siemens")]
PositiveConductance = Annotated[float, Quantity("siemens", gt=0)]

ZERO_CELSIUS = 273.15
"""[K]."""
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 25 + ZERO_CELSIUS, 100 + ZERO_CELSIUS
"""Where the equations hold [K]."""


class PassiveTio2(Device):
    """An odd cubic whose two coefficients follow from the nominal conductance and the temperature.

        I = A1 V + A3 V^3
        A1 = a0 + a1 G + a2 T
        A3 = b1 G + b2 G^2 + b0 T^-1.33            T in degrees Celsius, a number

    The state is the nominal conductance G [S] of the fit, close to I/V of a small read at room temperature; between
    `lowest_conductance` and `highest_conductance`. A fit to several hundred TiO2-x devices in passive crossbars: Nili
    et al., arXiv 1811.10385 (IEEE document 9047174), coefficients of the average device. T^-1.33 of a Celsius
    temperature has no meaning near 0 degC: outside 25 - 100 degC the model refuses. That the temperature is in
    Celsius is fixed by A1: at 25 degC its offset is 0.3 uS, with kelvin it would be 32 uS. Leaves out switching and
    the noise in time; the spread between devices is `variability`.
    """

    model: Literal["passive_tio2"] = "passive_tio2"
    lowest_conductance: PositiveConductance = 1e-6
    """Least G [S]."""
    highest_conductance: PositiveConductance = 100e-6
    """Largest G [S]."""
    linear_offset: SignedConductance = -2.58e-6
    """a0 [S]."""
    linear_slope: Annotated[float, RATIO, Field(gt=0)] = 0.977
    """a1."""
    linear_warming: Annotated[float, Quantity("siemens/kelvin")] = 1.166e-7
    """a2 [S/K]."""
    cubic_slope: Annotated[float, Quantity("1/volt**2", ge=0)] = 1.18
    """b1 [1/V^2]."""
    cubic_curvature: Annotated[float, Quantity("1/siemens/volt**2", ge=0)] = 6596.0
    """b2 [1/(S V^2)]."""
    cubic_cooling: Annotated[float, Quantity("siemens/volt**2", ge=0)] = 1.605e-3
    """b0 [S/V^2]: the last term at 1 degC."""

    spice_model: ClassVar[str] = "polynomial_read"
    thermal: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._require_rise("lowest_conductance", "highest_conductance", "S")
        return self

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        linear, cubic = self.coefficients(state, temperature)
        return self.activated(voltage * (linear + cubic * voltage**2), temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        linear, cubic = self.coefficients(state)
        return linear + cubic * reference_voltage**2

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        """The root of the quadratic in G that I/V is."""
        xp = namespace(conductance)
        square = reference_voltage**2
        linear, cubic = self.coefficients(0.0)
        slope = self.linear_slope + self.cubic_slope * square
        left = conductance - (linear + cubic * square)
        # Written so that nothing cancels, and so that it holds where the curvature is zero.
        return 2 * left / (slope + xp.sqrt(slope**2 + 4 * self.cubic_curvature * square * left))

    def _conductance_range(self, reference_voltage: float) -> tuple[float, float]:
        lowest, highest = (
            self._conductance(state, reference_voltage) for state in (self.lowest_conductance, self.highest_conductance)
        )
        return lowest, highest

    def coefficients(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> tuple[Array, Array]:
        """A1 [S] and A3 [S/V^2] at `temperature` [K].

        Raises:
            DomainError: a temperature outside 25 - 100 degC.
        """
        # A hundredth of a kelvin for temperatures that were converted to kelvin and rounded.
        if not LOWEST_TEMPERATURE - 0.01 <= temperature <= HIGHEST_TEMPERATURE + 0.01:
            raise DomainError(
                "PassiveTio2 does not hold at this temperature",
                value=f"{temperature:g} K",
                limit=f"{LOWEST_TEMPERATURE:g} - {HIGHEST_TEMPERATURE:g} K",
            )
        celsius = temperature - ZERO_CELSIUS
        linear = self.linear_offset + self.linear_slope * state + self.linear_warming * celsius
        cubic = (self.cubic_slope + self.cubic_curvature * state) * state + self.cubic_cooling * celsius**-1.33
        return linear, cubic

    def variability(self, temperature: float = ROOM_TEMPERATURE) -> Variability:
        """The spread between devices that the source measured, as one of the small-signal conductance.

            sigma(A1) = -1.07 uS + 0.25 G + 22 nS/K T - 1300 G^2/S            T in degrees Celsius

        Written as a polynomial of A1 at `temperature` [K]. The spread of A3, which the source ties to the same draw,
        is left out. Below about 2 uS the fit is negative: no spread there.
        """
        offset, _ = self.coefficients(0.0, temperature)
        slope = self.linear_slope
        # In uS: G = (A1 - offset)/slope, put into the polynomial.
        constant, first, second = -1.07 + 2.2e-2 * (temperature - ZERO_CELSIUS), 0.25, -1300e-6
        shift = offset * 1e6 / slope
        coefficients = (
            (constant - first * shift + second * shift**2) * 1e-6,
            (first - 2 * second * shift) / slope * 1e-6,
            second / slope**2 * 1e-6,
        )
        return Variability(
            effects=(DeviceToDevice(distribution=PolynomialSpread(coefficients=coefficients, scale=1e-6)),)
        )

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        linear, cubic = self.coefficients(state, temperature)
        factor = self.thermal_factor(temperature)
        return {"linear": linear * factor, "quadratic": 0.0, "cubic": cubic * factor}
