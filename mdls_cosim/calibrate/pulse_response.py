"""What equal pulses do to a conductance: the law of a step, and how it scatters."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mdls_cosim.config import Config
from mdls_cosim.quantities import RATIO, SHARE, Conductance

Share = Annotated[float, Field(ge=0)]


class PulseLaw(Config):
    """What one pulse does to u, the conductance as a share of its range: du = c0 + c1 u + c2 u^2 + ...

    With c0 and c1 alone, a run of pulses is the saturating exponential u(n) = u_end + (u_start - u_end) e^(-n/A) with
    A = -1/log(1 + c1) that is in use for analogue memory (NeuroSim+, 10.1109/IEDM.2017.8268337); c1 = 0 is a straight
    line. It leaves out any dependence on the pulse's height and width, and on the time between pulses.
    """

    coefficients: Annotated[tuple[float, ...], RATIO] = Field(min_length=1)
    """c0, c1, ... [share of the range a pulse]."""
    spread: Annotated[Share, SHARE] = 0.0
    """Standard deviation of one pulse's step [share of the range]: independent from pulse to pulse."""
    ramp_spread: Annotated[Share, SHARE] = 0.0
    """Standard deviation, from ramp to ramp, of a factor on all steps of a ramp."""

    def step(self, share: np.ndarray) -> np.ndarray:
        """du of one pulse at u = `share`, any shape."""
        return np.polynomial.polynomial.polyval(np.asarray(share, dtype=np.float64), np.asarray(self.coefficients))


class PulseResponse(Config):
    """What equal pulses do to a device's conductance, up and down, as calibrated on measured trains."""

    lowest: Conductance | None = None
    """Where the share u is 0 [S]; None where the measurement was given in shares itself."""
    highest: Conductance | None = None
    """Where the share u is 1 [S]."""
    raising: PulseLaw | None = None
    """Of pulses that raise the conductance."""
    lowering: PulseLaw | None = None
    """Of pulses that lower it."""
    read_noise: Annotated[Share, SHARE] = 0.0
    """Standard deviation of one reading [share of the range]."""
