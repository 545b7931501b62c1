"""The access transistor of 1T1R cells."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from mdls_cosim.config import Config
from mdls_cosim.devices.base import Array, namespace
from mdls_cosim.quantities import Amplitude, Length, RootVoltage, Transconductance, Unit, Voltage


class Nmos(Config):
    """An n-channel transistor, SPICE level 1 (Shichman and Hodges, 10.1109/JSSC.1968.1049902), bulk at ground.

        V_T = VTO + gamma (sqrt(phi + V_SB) - sqrt(phi))                                     body effect
        I_D = KP W/L (V_GS - V_T - V_DS/2) V_DS (1 + lambda V_DS)        V_DS < V_GS - V_T
        I_D = KP W/L (V_GS - V_T)^2/2 (1 + lambda V_DS)                  beyond

    Source and drain change roles with the sign of V_DS; their junctions to the bulk conduct below ground (-0.5 V and
    less). Parameters hold at 300 K; ngspice moves them with temperature by its own level-1 rules. It leaves out
    subthreshold conduction: a closed transistor leaks its junctions' picoamperes only.
    """

    threshold_voltage: Voltage = 0.7
    """VTO, at no source-to-bulk voltage [V]."""
    transconductance: Transconductance = 60e-6
    """KP [A/V^2]."""
    width: Length = 10e-6
    """W [m]."""
    length: Length = 1e-6
    """L [m]."""
    body_effect: RootVoltage = 0.0
    """gamma [V^0.5]; 0: none."""
    surface_potential: Amplitude = 0.6
    """phi [V]."""
    channel_modulation: Annotated[float, Unit("1/volt"), Field(ge=0, le=10)] = 0.0
    """lambda [1/V]."""

    spice_model: ClassVar[str] = "nmos1"

    def current(self, drain: Array, gate: float, source: Array) -> Array:
        """I_D [A] from drain to source at 300 K, terminal voltages against ground, the bulk's [V]; without junctions.

        Below ground the root of the body effect goes on along its tangent, as SPICE's does.
        """
        xp = namespace(drain, source)
        forward = drain >= source
        low, across = xp.where(forward, source, drain), xp.where(forward, drain - source, source - drain)
        root = self.surface_potential**0.5
        above = xp.where(low > 0, low, 0 * low)
        tangent = root + xp.where(low > 0, 0 * low, low) / (2 * root)
        body = xp.where(low > 0, xp.sqrt(self.surface_potential + above), xp.maximum(tangent, 0.0))
        over = xp.maximum(gate - low - (self.threshold_voltage + self.body_effect * (body - root)), 0.0)
        # Beyond pinch-off the channel's own share of the voltage stays.
        channel = xp.minimum(across, over)
        factor = self.transconductance * self.width / self.length * (1 + self.channel_modulation * across)
        size = factor * (over - channel / 2) * channel
        return xp.where(forward, size, -size)

    def spice_parameters(self) -> dict[str, Any]:
        """Parameters of the SPICE twin."""
        return {
            "vto": self.threshold_voltage,
            "kp": self.transconductance,
            "w": self.width,
            "l": self.length,
            "gamma": self.body_effect,
            "phi": self.surface_potential,
            "lam": self.channel_modulation,
        }
