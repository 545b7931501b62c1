"""What a fit uses, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.errors import ConvergenceError, InputError
from mdls_cosim.surrogates import RowResponses, fit
from mdls_cosim.surrogates.fit import held_out_error
from mdls_cosim.tiles import RESISTANCES, TileSpec, TransimpedanceAmplifier


@pytest.fixture(scope="module")
def dataset(nodal_dataset, tile_spec) -> Dataset:
    return nodal_dataset(tile_spec(5, 4, nonlinearity=3.0), tiles=2, vectors=2)


def changed(dataset: Dataset, **arrays: np.ndarray) -> Dataset:
    """With other values in some arrays of the reads."""
    read = dict(dataset.experiments["read"])
    for name, values in arrays.items():
        read[name] = replace(read[name], values=values)
    return replace(dataset, experiments={**dataset.experiments, "read": read})


def values(dataset: Dataset, name: str) -> np.ndarray:
    return dataset.experiments["read"][name].values


def test_held_out_tiles_do_not_shape_the_fit(dataset):
    """Two tiles of each class: the second is held out. Spoiling it spoils the stated error and nothing else."""
    currents = values(dataset, "currents").copy()
    currents[1::2] *= 1.5
    before, after = fit(dataset), fit(changed(dataset, currents=currents))
    assert after.spec == before.spec
    assert after.coefficients == before.coefficients
    assert before.error.rms < 0.01
    assert after.error.rms > 0.3


def test_fitted_tiles_do_shape_the_fit(dataset):
    currents = values(dataset, "currents").copy()
    currents[0::2] *= 1.01
    assert fit(changed(dataset, currents=currents)).spec != fit(dataset).spec


def test_it_is_deterministic(dataset):
    one, other = fit(dataset), fit(dataset)
    assert one.spec == other.spec
    assert one.coefficients == other.coefficients
    assert one.provenance.content_hash == other.provenance.content_hash


def test_the_recorded_parameters_do_not_shape_it(dataset):
    tile = {**dataset.config["tile"], "sense_resistance": 99.0, "cell": {"model": "ohmic"}}
    other = fit(replace(dataset, config={**dataset.config, "tile": tile}))
    assert other.spec == fit(dataset).spec
    assert other.reference_spec.sense_resistance == 99.0


def test_data_without_reads_are_refused(nodal_dataset, tile_spec):
    whole = nodal_dataset(tile_spec(3, 2), iv=True, tiles=1, vectors=1)
    only = replace(whole, experiments={"iv": whole.experiments["iv"]})
    with pytest.raises(InputError, match=r"no reads.*iv.*\[read\]"):
        fit(only)


def test_one_tile_is_refused(nodal_dataset, tile_spec):
    plan = {"tiles": 1, "vectors": 3, "conductance_classes": ("uniform",)}
    with pytest.raises(InputError, match="1 tile"):
        fit(nodal_dataset(tile_spec(3, 2), **plan))


def test_two_tiles_are_enough(nodal_dataset, tile_spec):
    plan = {"tiles": 2, "vectors": 3, "conductance_classes": ("uniform",)}
    surrogate = fit(nodal_dataset(tile_spec(4, 3), **plan))
    assert surrogate.spec.sense_resistance == pytest.approx(7.0, rel=1e-3)


@pytest.mark.parametrize("damage", ["noise", "swapped axes"])
def test_data_that_no_tile_explains_are_refused(damage, nodal_dataset, tile_spec):
    # With good I-V curves of single cells, which tell that they are ohmic.
    plan = {"tiles": 2, "vectors": 2, "conductance_classes": ("uniform",)}
    dataset = nodal_dataset(tile_spec(5, 4), iv=True, **plan)
    currents = values(dataset, "currents")
    generator = np.random.default_rng(0)
    wrong = {
        "noise": lambda: generator.normal(0, np.abs(currents).max(), currents.shape),
        "swapped axes": lambda: currents[..., ::-1],
    }[damage]()
    with pytest.raises(ConvergenceError, match=r"no tile .* explains the data.*misfit"):
        fit(changed(dataset, currents=np.ascontiguousarray(wrong)))


def test_the_domain_is_the_range_that_cells_were_drawn_from(dataset):
    """Random cells never reach the very ends of their range, and weights are mapped to just these ends."""
    assert values(dataset, "conductances").max() < 1e-4
    surrogate = fit(dataset)
    assert surrogate.domain.conductances == (1e-6, 1e-4)
    at_the_ends = torch.tensor([1e-6, 1e-4], dtype=torch.float64).repeat(10).reshape(5, 4)
    assert surrogate.program(at_the_ends).outside["conductance"] == 0


def test_data_that_do_not_say_their_range_set_it_themselves(dataset):
    unsaid = {name: value for name, value in dataset.config.items() if name != "conductance_range"}
    surrogate = fit(Dataset.create(dataset.experiments, config=unsaid, seed=0))
    conductances = values(dataset, "conductances")
    assert surrogate.domain.conductances == (conductances.min(), conductances.max())


DOUBLE = {"drive": "double"}
AMPLIFIED = {"amplifier": TransimpedanceAmplifier(feedback_resistance=10e3, gain=100.0)}


def strong_lines(**changes) -> TileSpec:
    four = dict(zip(RESISTANCES, (20.0, 20.0, 50.0, 50.0), strict=True))
    return TileSpec(rows=6, cols=6, **{**four, **changes})


@pytest.mark.parametrize("circuit", [DOUBLE, AMPLIFIED, {**DOUBLE, **AMPLIFIED}], ids=["double", "amplifier", "both"])
def test_the_recorded_circuit_is_the_one_whose_resistances_are_found(circuit, nodal_dataset):
    spec = strong_lines(cell=Ohmic(), **circuit)
    surrogate = fit(nodal_dataset(spec, tiles=2, vectors=2))
    assert (surrogate.spec.drive, surrogate.spec.amplifier) == (spec.drive, spec.amplifier)
    for name in RESISTANCES:
        assert getattr(surrogate.spec, name) == pytest.approx(getattr(spec, name), rel=1e-6), name
    assert surrogate.error.rms < 1e-9


def test_measured_data_take_their_circuit_from_the_start(nodal_dataset):
    spec = strong_lines(cell=Ohmic(), **DOUBLE)
    dataset = nodal_dataset(spec, tiles=2, vectors=2)
    measured = Dataset.create(dataset.experiments, config={}, seed=None)
    assert fit(measured, start=spec.replace(row_line_resistance=1.0)).error.rms < 1e-9
    assert fit(measured).error.rms > 1e-5  # the circuit of single drive is another


def test_cells_that_are_not_ohmic_behind_an_amplifier(nodal_dataset):
    spec = strong_lines(cell=Sinh(nonlinearity=3.0), row_line_resistance=4.0, column_line_resistance=4.0, **AMPLIFIED)
    surrogate = fit(nodal_dataset(spec, tiles=2, vectors=2))
    assert surrogate.spec.sense_resistance == pytest.approx(50.0, rel=1e-3)
    assert max(surrogate.error.classes.values()) < 5e-3


def test_rows_of_cells_that_are_not_ohmic_may_be_driven_at_both_ends(nodal_dataset):
    spec = strong_lines(cell=Sinh(nonlinearity=3.0), row_line_resistance=4.0, column_line_resistance=4.0, **DOUBLE)
    surrogate = fit(nodal_dataset(spec, tiles=2, vectors=2))
    assert isinstance(surrogate, RowResponses)
    assert surrogate.spec.drive == "double"
    assert surrogate.spec.row_line_resistance == pytest.approx(4.0, rel=1e-3)
    assert max(surrogate.error.classes.values()) < 5e-3


def test_wires_are_told_for_300_kelvin(nodal_dataset, tile_spec):
    warm = tile_spec(4, 3, temperature=400.0, wire_temperature_coefficient=0.004)
    surrogate = fit(nodal_dataset(warm, tiles=2, vectors=2))
    assert surrogate.spec.column_line_resistance == pytest.approx(2.5, rel=1e-6)


def test_inputs_are_inside_up_to_the_voltage_that_they_were_drawn_up_to(dataset):
    dense = values(dataset, "voltages")[:, 2:4]  # two vectors each of sparse, dense, half_on and signed
    arrays = {name: values(dataset, name)[:, 2:4] for name in ("voltages", "currents")}
    arrays["input_class"] = values(dataset, "input_class")[2:4]
    dataset = changed(dataset, **arrays)
    assert np.abs(dense).max() < 0.3
    surrogate = fit(dataset)
    assert surrogate.domain.input_voltage == 0.3
    programmed = surrogate.program(torch.full((5, 4), 5e-5, dtype=torch.float64))
    programmed(torch.full((1, 5), 0.3, dtype=torch.float64))
    assert not any(programmed.outside.values())
    unsaid = {name: value for name, value in dataset.config.items() if name != "read"}
    other = fit(Dataset.create(dataset.experiments, config=unsaid, seed=0))
    assert other.domain.input_voltage == np.abs(dense).max()


def test_an_error_that_is_no_number_is_not_recorded(dataset):
    surrogate = fit(dataset)
    reads = [torch.as_tensor(values(dataset, name)[:2]) for name in ("conductances", "voltages", "currents")]
    names = np.array([["first"] * reads[1].shape[1], ["second"] * reads[1].shape[1]])
    reads[2][1, 0, 0] = torch.nan
    with pytest.raises(ConvergenceError, match=r"at second: got .1 of 2 classes"):
        held_out_error(surrogate, *reads, names)
