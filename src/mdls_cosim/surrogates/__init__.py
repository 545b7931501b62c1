"""Surrogates: tile models of a few matmuls, fitted to SPICE, that know their domain and their error."""

from mdls_cosim.surrogates.domain import Domain, HeldOutError
from mdls_cosim.surrogates.fit import fit, left_out
from mdls_cosim.surrogates.linear import LinearSurrogate
from mdls_cosim.surrogates.series import SeriesSurrogate
from mdls_cosim.surrogates.surrogate import ProgrammedSurrogate, Surrogate, load
from mdls_cosim.surrogates.validate import Validation, validate

__all__ = [
    "Domain",
    "HeldOutError",
    "LinearSurrogate",
    "ProgrammedSurrogate",
    "SeriesSurrogate",
    "Surrogate",
    "Validation",
    "fit",
    "left_out",
    "load",
    "validate",
]
