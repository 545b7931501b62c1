"""Phase-change memory: an ohmic read whose conductance spreads, drifts and fluctuates."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, Device
from mdls_cosim.devices.variability import Drift, Flicker, LogExponent, ProgrammingError, ReadNoise, Variability
from mdls_cosim.quantities import Quantity

MEASURED_CONDUCTANCE = 25e-6
"""Largest conductance [S] of the devices that `variability` was measured on."""


class PhaseChange(Device):
    """A conductance between 0 and G_max, ohmic at read voltages.

        I = G V

    The state is G [S], at the time of its last verify. What makes the device is `variability`: programming error,
    drift and read noise of doped GST mushroom cells with G_max = 25 uS, Nandakumar et al.,
    10.1109/ICECS46596.2019.8964852. Its twin is the ohmic cell. Leaves out the dynamics of writing, and the threshold
    switching of an amorphous cell above about 1 V.
    """

    model: Literal["phase_change"] = "phase_change"
    highest_conductance: Annotated[float, Quantity("siemens", gt=0)] = MEASURED_CONDUCTANCE
    """G_max [S]."""

    spice_model: ClassVar[str] = "ohmic"
    linear: ClassVar[bool] = True

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        return self.activated(state * voltage, temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        return state

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        return conductance

    def _conductance_range(self, reference_voltage: float) -> tuple[float, float]:
        return 0.0, self.highest_conductance

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        return {"conductance": state * self.thermal_factor(temperature)}

    def variability(self) -> Variability:
        """What the source measured, in parts of G_max, with g = G/G_max and t since the programming.

            sigma of programming = (0.26348 + 1.9650 g - 1.1731 g^2) uS at G_max = 25 uS
            G(t) = G (t/20 s)^-nu, nu normal
            mean of nu           = clip(-0.0155 ln g + 0.0244, 0.049, 0.1)
            sigma of nu          = clip(-0.0125 ln g - 0.0059, 0.008, 0.045)
            sigma of a read      = G Q sqrt(ln((t + 250 ns)/500 ns)),    Q = min(0.0088/g^0.65, 0.2)

        The source takes g of nu and Q from the target; here it is that of the programmed conductance.
        """
        scale = self.highest_conductance
        part = scale / MEASURED_CONDUCTANCE
        programming = tuple(own * part for own in (0.26348e-6, 1.9650e-6, -1.1731e-6))
        mean = LogExponent(slope=-0.0155, offset=0.0244, lowest=0.049, highest=0.1, scale=scale)
        spread = LogExponent(slope=-0.0125, offset=-0.0059, lowest=0.008, highest=0.045, scale=scale)
        flicker = Flicker(strength=0.0088, exponent=-0.65, highest=0.2, scale=scale, read_time=250e-9)
        return Variability(
            effects=(
                ProgrammingError(polynomial=programming, polynomial_scale=scale),
                Drift(exponent=mean, exponent_spread=spread, start_time=20.0),
                ReadNoise(flicker=flicker),
            )
        )
