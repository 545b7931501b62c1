"""The level-1 transistor written from its equations, with SPICE's conventions for what they leave open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

BOLTZMANN, CHARGE = 1.380649e-23, 1.602176634e-19
NOMINAL = 300.0


@dataclass(frozen=True)
class Level1:
    """Parameters at 300 K; the source is whichever of the two ends is lower, the bulk is at ground."""

    vto: float
    kp: float
    ratio: float
    gamma: float = 0.0
    phi: float = 0.6
    lam: float = 0.0

    def drain_current(self, drain: float, gate: float, source: float) -> float:
        """From drain to source [A], junctions aside."""
        if drain < source:
            return -self.drain_current(source, gate, drain)
        root = np.sqrt(self.phi)
        # Below ground SPICE goes on along the tangent of the root.
        body = np.sqrt(self.phi + source) if source >= 0 else max(0.0, root + source / (2 * root))
        over = gate - source - (self.vto + self.gamma * (body - root))
        across = drain - source
        if over <= 0:
            return 0.0
        factor = self.kp * self.ratio * (1 + self.lam * across)
        return factor * (over**2 / 2 if across >= over else (over - across / 2) * across)

    def at(self, kelvin: float) -> Level1:
        """SPICE's rules: mobility as T^-3/2; phi by the intrinsic density; VTO by half of the gap and of phi."""
        phi = self._phi(kelvin)
        flat = self.vto - self.gamma * np.sqrt(self.phi) - self.phi / 2
        vto = flat + (gap(NOMINAL) - gap(kelvin)) / 2 + phi / 2 + self.gamma * np.sqrt(phi)
        return replace(self, vto=vto, phi=phi, kp=self.kp * (kelvin / NOMINAL) ** -1.5)

    def _phi(self, kelvin: float) -> float:
        """phi = 2 kT/q ln(N/n_i), n_i^2 ~ T^3 exp(-Eg/kT): the dopants N stay, n_i moves."""
        thermal, nominal = BOLTZMANN * kelvin / CHARGE, BOLTZMANN * NOMINAL / CHARGE
        log_density = self.phi / nominal  # 2 ln(N/n_i) at 300 K
        log_density -= 3 * np.log(kelvin / NOMINAL) - gap(kelvin) / thermal + gap(NOMINAL) / nominal
        return thermal * log_density

    def element(self, gate: float) -> Callable[[np.ndarray], np.ndarray]:
        """For a Network: nodes (drain, source)."""

        def currents(voltages: np.ndarray) -> np.ndarray:
            i = self.drain_current(float(voltages[0]), gate, float(voltages[1]))
            return np.array([i, -i])

        return currents


def gap(kelvin: float) -> float:
    """Of silicon [eV], as SPICE has it."""
    return 1.16 - 7.02e-4 * kelvin**2 / (kelvin + 1108)
