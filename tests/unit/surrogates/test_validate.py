"""Validation on fresh draws: it passes a good surrogate and catches a wrong one."""

import pytest

from mdls_cosim.characterize import CONDUCTANCE_CLASSES, INPUT_CLASSES
from mdls_cosim.errors import InputError
from mdls_cosim.surrogates import fit, validate
from mdls_cosim.surrogates.linear import LinearSurrogate
from mdls_cosim.surrogates.series import SeriesSurrogate


@pytest.fixture(scope="module")
def surrogate(nodal_dataset, tile_spec) -> SeriesSurrogate:
    found = fit(nodal_dataset(tile_spec(6, 5, nonlinearity=3.0), tiles=3, vectors=3))
    assert isinstance(found, SeriesSurrogate)
    return found


def altered(surrogate: SeriesSurrogate, **changes) -> SeriesSurrogate:
    """The same surrogate of a tile that is not what it was fitted to."""
    return SeriesSurrogate(
        surrogate.spec,
        reference_spec=surrogate.reference_spec.replace(**changes),
        domain=surrogate.domain,
        error=surrogate.error,
        coefficients=surrogate.coefficients,
    )


@pytest.mark.ngspice
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_good_surrogate_passes(seed, surrogate, engine):
    result = validate(surrogate, cases=10, seed=seed, engine=engine)
    assert result.passed, result
    assert result.cases == 10
    assert result.bound == surrogate.error.bound
    assert set(result.classes) == {f"{tile} / {read}" for tile in CONDUCTANCE_CLASSES for read in INPUT_CLASSES}
    assert result.worst == max(result.classes.values()) < 0.01


@pytest.mark.ngspice
@pytest.mark.parametrize(
    "changes",
    [
        {"sense_resistance": 70.0},
        {"row_line_resistance": 20.0},
        {"cell": {"model": "sinh", "nonlinearity": 3.5}},
        {"cell": {"model": "ohmic"}},
    ],
    ids=str,
)
def test_a_surrogate_of_another_tile_fails(changes, surrogate, engine):
    result = validate(altered(surrogate, **changes), cases=5, engine=engine)
    assert not result.passed
    assert result.worst > result.bound


@pytest.mark.ngspice
def test_an_exact_surrogate_is_exact(tile_spec, engine):
    result = validate(LinearSurrogate.exact(tile_spec(6, 5)), cases=5, engine=engine)
    assert result.passed
    assert result.worst < 1e-9


@pytest.mark.ngspice
def test_the_seed_decides_the_draws(surrogate, engine):
    first, again, other = (validate(surrogate, cases=2, seed=seed, engine=engine) for seed in (4, 4, 5))
    assert first.classes == pytest.approx(again.classes, rel=1e-6)
    assert first.classes != pytest.approx(other.classes, rel=1e-3)
    assert {name.split(" / ")[0] for name in first.classes} == set(CONDUCTANCE_CLASSES[:2])


def test_no_cases_are_refused(surrogate):
    with pytest.raises(InputError, match="cases"):
        validate(surrogate, cases=0)
