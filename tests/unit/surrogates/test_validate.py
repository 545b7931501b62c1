"""Validation on fresh draws: it passes a good surrogate and catches a wrong one."""

import importlib

import numpy as np
import pytest
import torch

from mdls_cosim.characterize import CONDUCTANCE_CLASSES, INPUT_CLASSES
from mdls_cosim.errors import DomainWarning, InputError
from mdls_cosim.surrogates import Validation, fit, validate
from mdls_cosim.surrogates.domain import Domain
from mdls_cosim.surrogates.linear import LinearSurrogate
from mdls_cosim.surrogates.series import SeriesSurrogate

validation = importlib.import_module("mdls_cosim.surrogates.validate")  # the package's own name for it is the function


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


@pytest.mark.ngspice
def test_tiles_of_another_size(surrogate, engine):
    smaller = validate(surrogate, cases=5, rows=4, cols=3, engine=engine)
    assert smaller.size == (4, 3)
    assert smaller.passed
    with pytest.warns(DomainWarning, match="size: got .8x5, 5 times., allowed up to 6x5"):
        larger = validate(surrogate, cases=5, rows=8, engine=engine)
    assert larger.size == (8, 5)


@pytest.mark.ngspice
def test_classes_of_three_tiles_have_intervals(surrogate, engine):
    few = validate(surrogate, cases=10, engine=engine)  # two tiles of each class
    assert not few.intervals
    more = validate(surrogate, cases=15, engine=engine)
    assert set(more.intervals) == set(more.classes)
    for name, (low, high) in more.intervals.items():
        assert low < more.classes[name] < high


@pytest.mark.parametrize("tiles", [3, 4, 8, 20])
@pytest.mark.parametrize("scatter", [0.1, 0.3, 0.5])
def test_intervals_hold_the_true_error_as_often_as_they_say(tiles, scatter):
    """`validate` draws 4 tiles a class unless told otherwise; quantiles of redrawn tiles held it 77 times in 100."""
    generator = np.random.default_rng([tiles, int(10 * scatter)])
    names = np.full((tiles, 4), "all")
    true, inside, trials = 0.01 * np.exp(scatter**2), 0, 600  # root of the mean square of a lognormal
    for _ in range(trials):
        # Tiles differ in how well they are met, their reads alike: only tiles are independent.
        size = 0.01 * generator.lognormal(0.0, scatter, (tiles, 1, 1))
        missed = torch.as_tensor(size * generator.normal(size=(tiles, 4, 6)))
        currents = torch.ones(tiles, 4, 6, dtype=torch.float64)
        low, high = validation._intervals(missed, currents, names)["all"]
        inside += low <= true <= high
    # 95 %, give or take three standard deviations of 600 trials; 1 % less where the scatter is large.
    assert 0.915 <= inside / trials <= 0.98


def test_tiles_of_unequal_currents_widen_an_interval():
    names, currents = np.full((4, 1), "all"), torch.ones(4, 1, 50, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    alike = 0.01 * torch.randn(4, 1, 50, dtype=torch.float64, generator=generator)
    narrow = validation._intervals(alike, currents, names)["all"]
    # One tile of tenfold currents, met half as well: the class's error is nearly its alone.
    ruled = torch.tensor([10.0, 1.0, 1.0, 1.0]).double()[:, None, None]
    wide = validation._intervals(alike * ruled * (1 + (ruled > 1)), currents * ruled, names)["all"]
    assert wide[1] / wide[0] > 2 * narrow[1] / narrow[0]


def test_an_interval_of_no_error_at_all_is_no_error():
    exact = torch.zeros(3, 1, 4, dtype=torch.float64)
    low, high = validation._intervals(exact, exact + 1, np.full((3, 1), "all"))["all"]
    assert 0 <= low <= high < 1e-20


@pytest.mark.ngspice
def test_classes_that_were_not_fitted_are_named(nodal_dataset, tile_spec, engine):
    """Nine decibels worse on clustered tiles is no fault of the fit: it says what to characterize instead."""
    plan = {"conductance_classes": ("log_uniform",), "input_classes": ("sparse",)}
    narrow = fit(nodal_dataset(tile_spec(6, 5, nonlinearity=6.0), tiles=4, vectors=3, **plan))
    assert narrow.domain.conductance_classes == ("log_uniform",)
    assert narrow.domain.input_classes == ("sparse",)
    assert narrow.domain.input_signs == ("positive", "negative")  # a sinh is odd
    with pytest.warns(DomainWarning, match="input sign: got .both"):
        result = validate(narrow, cases=5, engine=engine)
    assert not result.passed
    assert result.unfitted == set(result.classes) - {"log_uniform / sparse"}
    assert result.worst_fitted == result.classes["log_uniform / sparse"] <= result.bound
    beyond = [name for name, error in result.classes.items() if error > result.bound]
    assert set(result.missing_classes["input_classes"]) == {name.split(" / ")[1] for name in beyond} - {"sparse"}
    assert "log_uniform" not in result.missing_classes.get("conductance_classes", ())


def test_a_surrogate_without_recorded_classes_has_none_missing():
    result = Validation({"uniform / dense": 2.0}, bound=1.0, cases=1, size=(2, 2))
    assert not result.unfitted
    assert result.worst_fitted == 2.0
    assert not result.missing_classes


def test_only_what_is_missing_is_asked_for():
    domain = Domain(conductance_classes=("uniform",), input_classes=("dense", "sparse"))
    classes = {"uniform / dense": 0.1, "bimodal / dense": 2.0, "uniform / signed": np.nan, "clustered / sparse": 0.2}
    result = Validation(classes, bound=1.0, cases=1, size=(2, 2), domain=domain)
    assert result.worst_fitted == 0.1
    assert result.missing_classes == {"conductance_classes": ("bimodal",), "input_classes": ("signed",)}


def test_no_cases_are_refused(surrogate):
    with pytest.raises(InputError, match="cases"):
        validate(surrogate, cases=0)


@pytest.mark.parametrize("errors", [(0.1, np.nan), (np.nan, 0.1), (0.1, np.inf)], ids=str)
def test_an_error_that_is_no_number_does_not_pass(errors):
    result = Validation(dict(zip("ab", errors, strict=True)), bound=1.0, cases=2, size=(2, 2))
    assert not result.passed
    assert not np.isfinite(result.worst)
