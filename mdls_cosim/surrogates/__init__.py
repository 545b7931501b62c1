"""Surrogates: tile models of a few matmuls, fitted to SPICE, that know their domain and their error."""

from mdls_cosim.surrogates.domain import Domain, HeldOutError
from mdls_cosim.surrogates.fit import fit, left_out
from mdls_cosim.surrogates.fit_exact import fit_to_exact
from mdls_cosim.surrogates.fit_pulses import fit_pulses
from mdls_cosim.surrogates.linear import LinearSurrogate
from mdls_cosim.surrogates.noise import CurrentNoise, OhmicNoise
from mdls_cosim.surrogates.pulses import PulseDomain, PulseError, PulseSurrogate
from mdls_cosim.surrogates.row_responses import RowResponses
from mdls_cosim.surrogates.series import SeriesSurrogate
from mdls_cosim.surrogates.series_of_eight import SeriesOfEight
from mdls_cosim.surrogates.settling import SettlingError, StepResponse, settling_errors, step_response
from mdls_cosim.surrogates.surrogate import ProgrammedSurrogate, Surrogate, load
from mdls_cosim.surrogates.validate import Validation, validate

__all__ = [
    "CurrentNoise",
    "Domain",
    "HeldOutError",
    "LinearSurrogate",
    "OhmicNoise",
    "ProgrammedSurrogate",
    "PulseDomain",
    "PulseError",
    "PulseSurrogate",
    "RowResponses",
    "SeriesOfEight",
    "SeriesSurrogate",
    "SettlingError",
    "StepResponse",
    "Surrogate",
    "Validation",
    "fit",
    "fit_pulses",
    "fit_to_exact",
    "left_out",
    "load",
    "settling_errors",
    "step_response",
    "validate",
]
