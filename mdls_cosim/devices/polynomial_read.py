"""A cubic read model of multilevel RRAM: asymmetric, and more so the less it conducts."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, Device, arrays, log, namespace
from mdls_cosim.errors import DomainError
from mdls_cosim.quantities import Quantity

PositiveConductance = Annotated[float, Quantity("siemens", gt=0)]
Quadratic = Annotated[float, Quantity("ampere/volt**2")]
Cubic = Annotated[float, Quantity("ampere/volt**3")]

CENTRE = 100e-6
"""Conductance [S] about which the polynomials are evaluated: at log10(G/1 S) near -4 their terms cancel to a
thousandth, which single precision does not forgive."""
ITERATIONS = 60


class PolynomialRead(Device):
    """A read current of three terms, the higher two of which depend on the conductance.

        I = G V + N2(G) V^2 + N3(G) V^3,        N2 and N3 polynomials of log10(G / 1 S), highest power first

    The state is the small-signal conductance G [S], between `lowest_conductance` and `highest_conductance`. Outside
    these N2/G and N3/G stay what they are at the end, so that an open cell carries no current. The default
    coefficients are a fit to HfO2 RRAM in 1T1R cells of 50 - 225 uS, read up to 0.5 V (devices of Milo et al.,
    10.1109/IRPS46558.2021.9405119): at 50 uS N2 takes away a third of the current at 0.5 V, at 225 uS nothing is
    left of it. Beyond -0.55 V two conductances show the same current, so `reference_voltage` is held within
    `highest_voltage`. Leaves out temperature and switching.
    """

    model: Literal["polynomial_read"] = "polynomial_read"
    lowest_conductance: PositiveConductance = 50e-6
    """Least G of the fit [S]."""
    highest_conductance: PositiveConductance = 225e-6
    """Largest G of the fit [S]."""
    highest_voltage: Annotated[float, Quantity("volt", gt=0)] = 0.5
    """Of the fit, either polarity [V]."""
    quadratic: Annotated[tuple[Quadratic, ...], Field(min_length=1)] = (1.388e-4, 1.541e-3, 5.711e-3, 7.063e-3)
    """Coefficients of N2 [A/V^2], highest power first."""
    cubic: Annotated[tuple[Cubic, ...], Field(min_length=1)] = (8.871e-5, 6.7919e-4, 1.2968e-3)
    """Coefficients of N3 [A/V^3], highest power first."""

    spice_model: ClassVar[str] = "polynomial_read"

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._require_rise("lowest_conductance", "highest_conductance", "S")
        return self

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        quadratic, cubic = self._terms(state)
        return self.activated(voltage * (state + voltage * (quadratic + voltage * cubic)), temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        quadratic, cubic = self._terms(state)
        return state + reference_voltage * (quadratic + reference_voltage * cubic)

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        """By Newton's method between the ends of the fit, safeguarded by bisection; in proportion outside.

        Raises:
            DomainError: a reference voltage beyond `highest_voltage`.
        """
        (conductance,) = arrays(conductance)
        xp = namespace(conductance)
        ends = self._conductance_range(reference_voltage)
        below = conductance * (self.lowest_conductance / ends[0])
        above = conductance * (self.highest_conductance / ends[1])
        if not reference_voltage:
            return below  # I/V is G itself
        target = xp.clip(conductance, min=ends[0], max=ends[1])
        low, high = self.lowest_conductance + 0 * target, self.highest_conductance + 0 * target
        state = low + (high - low) * ((target - ends[0]) / (ends[1] - ends[0]))
        tolerance = 2 * xp.finfo(state.dtype).eps
        for _ in range(ITERATIONS):
            missing = target - self._conductance(state, reference_voltage)
            low, high = xp.where(missing > 0, state, low), xp.where(missing < 0, state, high)
            step = state + missing / self._slope(state, reference_voltage)
            following = xp.where((step >= low) & (step <= high), step, (low + high) / 2)
            done = bool(xp.all(xp.abs(following - state) <= tolerance * state))
            state = following
            if done:
                break
        return xp.where(conductance < ends[0], below, xp.where(conductance > ends[1], above, state))

    def _conductance_range(self, reference_voltage: float) -> tuple[float, float]:
        beyond = abs(reference_voltage) > self.highest_voltage
        if beyond if isinstance(beyond, bool) else bool(beyond.any()):  # a population's bound is an array
            raise DomainError(
                "conductances at a voltage that PolynomialRead does not hold at",
                value=f"{reference_voltage:g} V",
                limit=f"at most {self.highest_voltage} V of either sign",
                hint="Choose a smaller reference_voltage",
            )
        lowest, highest = (self._at_end(end, reference_voltage) for end in self._ends())
        return lowest, highest

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        quadratic, cubic = self._terms(state)
        factor = self.thermal_factor(temperature)
        return {"linear": state * factor, "quadratic": quadratic * factor, "cubic": cubic * factor}

    def _ends(self) -> tuple[float, float]:
        return self.lowest_conductance, self.highest_conductance

    def _terms(self, state: Array) -> tuple[Array, Array]:
        """N2 [A/V^2] and N3 [A/V^3]."""
        (state,) = arrays(state)
        xp = namespace(state)
        inside = xp.clip(state, min=self.lowest_conductance, max=self.highest_conductance)
        share, decades = state / inside, xp.log10(inside / CENTRE)
        quadratic, cubic = (_polynomial(_recentred(own), decades) for own in (self.quadratic, self.cubic))
        return share * quadratic, share * cubic

    def _slope(self, state: Array, reference_voltage: float) -> Array:
        """d(I/V)/dG at a state within the fit."""
        xp = namespace(state)
        decades = xp.log10(state / CENTRE)
        quadratic, cubic = (_polynomial(_derivative(_recentred(own)), decades) for own in (self.quadratic, self.cubic))
        return 1 + reference_voltage * (quadratic + reference_voltage * cubic) / (state * math.log(10))

    def _at_end(self, state: Array, reference_voltage: float) -> Array:
        """I/V [S] at an end of the fit."""
        decades = log(state / CENTRE) / math.log(10)
        quadratic, cubic = (_polynomial(_recentred(own), decades) for own in (self.quadratic, self.cubic))
        return state + reference_voltage * (quadratic + reference_voltage * cubic)


def _polynomial(coefficients: tuple[float, ...], at: Array) -> Array:
    """By Horner's rule, highest power first."""
    total = coefficients[0] + 0 * at
    for coefficient in coefficients[1:]:
        total = total * at + coefficient
    return total


def _derivative(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    degree = len(coefficients) - 1
    return tuple((degree - place) * own for place, own in enumerate(coefficients[:-1])) or (0.0,)


def _recentred(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    """Coefficients of the same polynomial in log10(G / CENTRE), by repeated synthetic division."""
    centre, own = math.log10(CENTRE), list(coefficients)
    for last in range(len(own), 1, -1):
        for place in range(1, last):
            own[place] += centre * own[place - 1]
    return tuple(own)
