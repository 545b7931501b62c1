"""Constants of nature in SI units: exact where the SI of 2019 fixes them, else CODATA 2018."""

ELEMENTARY_CHARGE = 1.602176634e-19
"""q [C], exact."""

PLANCK = 6.62607015e-34
"""h [J s], exact."""

VACUUM_PERMITTIVITY = 8.8541878128e-12
"""eps_0 [F/m]."""

ELECTRON_MASS = 9.1093837015e-31
"""m [kg], at rest."""
