"""What a surrogate is besides a model: a file, a domain, a stated error."""

import numpy as np
import pytest
import torch

from mdls_cosim import store
from mdls_cosim.characterize import CONDUCTANCE_CLASSES, INPUT_CLASSES, draw_conductances, draw_inputs
from mdls_cosim.errors import DomainError, DomainWarning, InputError, StoreError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.provenance import content_hash
from mdls_cosim.surrogates import RowResponses, fit, load
from mdls_cosim.surrogates.domain import Domain
from mdls_cosim.surrogates.linear import LinearSurrogate
from mdls_cosim.surrogates.series import START, SeriesSurrogate

KINDS = pytest.mark.parametrize("nonlinearity", [None, 3.0], ids=["linear", "series"])


@pytest.fixture(scope="module")
def fitted(nodal_dataset, tile_spec):
    made = {}

    def build(nonlinearity):
        if nonlinearity not in made:
            dataset = nodal_dataset(tile_spec(5, 4, nonlinearity=nonlinearity, temperature=330.0), tiles=2, vectors=2)
            made[nonlinearity] = dataset, fit(dataset)
        return made[nonlinearity]

    return build


@pytest.mark.filterwarnings("ignore::mdls_cosim.errors.DomainWarning")  # its tile has cells of 0 S
@KINDS
def test_saved_and_loaded_it_answers_the_same(nonlinearity, fitted, tmp_path, draw_tile, draw_voltages):
    _, surrogate = fitted(nonlinearity)
    surrogate.save(tmp_path / "surrogate.h5")
    loaded = load(tmp_path / "surrogate.h5")
    assert type(loaded) is type(surrogate)
    for name in ("spec", "reference_spec", "domain", "error", "coefficients", "provenance"):
        assert getattr(loaded, name) == getattr(surrogate, name), name
    conductances, voltages = torch.as_tensor(draw_tile((3, 5, 4), 1)), torch.as_tensor(draw_voltages((6, 5), 1))
    assert torch.equal(loaded.program(conductances)(voltages), surrogate.program(conductances)(voltages))


@KINDS
def test_it_says_where_it_came_from(nonlinearity, fitted):
    dataset, surrogate = fitted(nonlinearity)
    assert surrogate.provenance.parents == (dataset.content_hash,)
    assert surrogate.provenance.seed == dataset.provenance.seed
    assert {"torch", "scipy", "mdls_cosim"} <= set(surrogate.provenance.tools)


@KINDS
def test_the_domain_is_what_the_data_covered(nonlinearity, fitted):
    dataset, surrogate = fitted(nonlinearity)
    read = {name: array.values for name, array in dataset.experiments["read"].items()}
    domain = surrogate.domain
    assert (domain.rows, domain.cols, domain.temperature) == (5, 4, 330.0)
    # The range that was drawn from, which the draws themselves all but reach.
    low, high = dataset.config["conductance_range"]
    assert domain.conductances == (low, high)
    assert low <= read["conductances"].min() < 1.5 * low
    assert 0.95 * high < read["conductances"].max() <= high
    assert domain.input_voltage == dataset.config["read"]["voltage"]
    assert domain.input_voltage <= domain.cell_voltage < 2 * domain.input_voltage


@KINDS
def test_the_held_out_error_is_that_of_the_held_out_tiles(nonlinearity, fitted):
    dataset, surrogate = fitted(nonlinearity)
    read = {name: array.values for name, array in dataset.experiments["read"].items()}
    # Two tiles a class: the second of each is held out.
    held = slice(1, None, 2)
    found = surrogate.program(torch.as_tensor(read["conductances"][held]))(torch.as_tensor(read["voltages"][held]))
    missed, true = found.numpy() - read["currents"][held], read["currents"][held]
    assert surrogate.error.rms == pytest.approx(np.sqrt(np.mean(missed**2) / np.mean(true**2)), rel=1e-9)
    names = dataset.config["read"]
    assert set(surrogate.error.classes) == {
        f"{tile} / {inputs}" for tile in names["conductance_classes"] for inputs in names["input_classes"]
    }
    # clustered is the fifth class of conductances, half_on the third of inputs, two vectors each.
    mine = missed[4, 4:6], true[4, 4:6]
    assert surrogate.error.classes["clustered / half_on"] == pytest.approx(
        np.sqrt(np.mean(mine[0] ** 2) / np.mean(mine[1] ** 2)), rel=1e-9
    )
    assert surrogate.error.bound >= max(surrogate.error.classes.values())
    if nonlinearity is None:
        assert surrogate.error.rms < 1e-9
    else:
        assert 1e-6 < surrogate.error.rms < 0.01


def test_an_exact_surrogate_is_of_ohmic_cells_only(tile_spec):
    assert LinearSurrogate.exact(tile_spec(3, 2)).error is None
    with pytest.raises(InputError, match=r"ohmic.*sinh"):
        LinearSurrogate.exact(tile_spec(3, 2, nonlinearity=3.0))


def test_files_of_something_else_are_refused(fitted, tmp_path):
    path = tmp_path / "surrogate.h5"
    with pytest.raises(StoreError):
        load(path)
    store.write(path, store.Group("mdls_cosim.dataset", "1", {}, {}, {}))
    with pytest.raises(StoreError, match=r"mdls_cosim\.dataset"):
        load(path)
    _, surrogate = fitted(3.0)
    surrogate.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError):
        load(path)
    attributes = {**surrogate._config(), "kind": "oracle", "provenance": surrogate.provenance.as_dict()}
    store.write(path, store.Group("mdls_cosim.surrogate", "1", attributes, {}, {}))
    with pytest.raises(StoreError, match=r"oracle.*linear, row_responses, series"):
        load(path)


DOMAIN = Domain(rows=2, cols=3, conductances=(1e-6, 1e-4), input_voltage=0.3, cell_voltage=0.2)
UNFITTED = {**START, "amplitude": (0.3,)}


@pytest.fixture
def surrogate(tile_spec) -> SeriesSurrogate:
    # Almost no wires: a cell sees its row's voltage.
    spec = tile_spec(2, 3, nonlinearity=3.0, row_line_resistance=1e-3, column_line_resistance=1e-3)
    spec = spec.replace(driver_resistance=1e-3, sense_resistance=1e-3)
    return SeriesSurrogate(spec, domain=DOMAIN, coefficients=UNFITTED)


def tensor(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def outside(**counts: int) -> dict[str, int]:
    names = ("conductance", "size", "temperature", "input voltage", "input sign", "cell voltage")
    return {name: counts.get(name.replace(" ", "_"), 0) for name in names}


def test_conductances_outside_the_domain_are_counted(surrogate):
    edge = tensor([1e-6, 1e-4, 5e-5], [1e-5, 1e-5, 1e-5])
    assert surrogate.program(edge).outside == outside()
    beyond = tensor([0.9e-6, 1.1e-4, 0.0], [1e-5, 1e-5, 1e-5])
    with pytest.warns(DomainWarning, match="conductance: got .*0 S to 110 µS, 3 times.*allowed 1 µS to 100 µS") as said:
        programmed = surrogate.program(beyond)
    assert programmed.outside == outside(conductance=3)
    assert len(said) == 1
    # A surrogate warns once a limit: a second warning would be an error here.
    assert surrogate.program(beyond.expand(4, 2, 3)).outside == outside(conductance=12)


def test_reads_outside_the_domain_are_counted(surrogate):
    programmed = surrogate.program(tensor([1e-5] * 3, [1e-5] * 3))
    assert programmed.reads == 0
    programmed(tensor([0.1, 0.1], [0.19, -0.19], [0.0, 0.0]))
    assert programmed.reads == 3
    assert programmed.outside == outside()
    with pytest.warns(DomainWarning) as said:
        programmed(tensor([0.25, 0.1], [-0.35, 0.0], [0.35, 0.35], [0.3, 0.1]))
    programmed(tensor([0.35, 0.1]))
    assert [str(each.message).split(": ")[1] for each in said] == ["input voltage", "cell voltage"]
    assert programmed.reads == 8
    # One count a read, however many rows exceed it; 0.3 V itself was in the data.
    assert programmed.outside == outside(input_voltage=3, cell_voltage=5)


@pytest.mark.filterwarnings("ignore::mdls_cosim.errors.DomainWarning")
def test_an_input_to_many_tiles_counts_for_each(surrogate):
    programmed = surrogate.program(tensor([1e-5] * 3, [1e-5] * 3).expand(5, 2, 3))
    programmed(tensor([0.35, 0.0], [0.1, 0.0]))
    assert programmed.reads == 10
    assert programmed.outside == outside(input_voltage=5, cell_voltage=5)
    programmed(tensor([0.35, 0.0]).expand(5, 1, 2))
    assert programmed.reads == 15
    assert programmed.outside == outside(input_voltage=10, cell_voltage=10)


def test_larger_and_warmer_tiles_are_outside_smaller_ones_inside(surrogate):
    cells = torch.full((7, 1, 2), 1e-5, dtype=torch.float64)
    assert surrogate.for_tile(rows=1, cols=2).program(cells).outside == outside()
    warm = surrogate.for_tile(rows=3, temperature=350.0)
    warm.domain = warm.domain.replace(temperature=300.0)
    with pytest.warns(DomainWarning) as said:
        assert warm.program(cells.expand(7, 3, 2)[..., [0, 0, 0]]).outside == outside(size=7, temperature=7)
    assert 'size: got "3x3, 7 times", allowed up to 2x3' in str(said[0].message)
    assert "350 K, 7 times" in str(said[1].message)


def test_a_strict_surrogate_refuses_and_counts(surrogate, tmp_path):
    surrogate.save(tmp_path / "s.h5")
    strict = load(tmp_path / "s.h5", strict=True)
    with pytest.raises(DomainError, match="conductance"):
        strict.program(tensor([0.0, 1e-5, 1e-5], [1e-5, 1e-5, 1e-5]))
    programmed = strict.program(tensor([1e-5] * 3, [1e-5] * 3))
    with pytest.raises(DomainError, match=r"input voltage: got .*0\.4 V, 2 times"):
        programmed(tensor([0.4, 0.0], [0.4, 0.0]))
    assert programmed.outside["input voltage"] == 2


def test_what_is_missing_from_a_file_is_one_error(surrogate, tmp_path):
    path = tmp_path / "s.h5"
    whole = {**surrogate._config(), "provenance": surrogate.provenance.as_dict()}
    for wrong in (
        {name: value for name, value in whole.items() if name != "spec"},
        {**whole, "spec": {**whole["spec"], "rows": "many"}},
        {**whole, "domain": {"colour": 1}},
        {**whole, "coefficients": {"third": "abc"}},
        {**whole, "provenance": {}},
    ):
        if wrong["provenance"]:  # signed like one of ours
            config = {name: value for name, value in wrong.items() if name != "provenance"}
            wrong["provenance"] = {**wrong["provenance"], "config": config, "content_hash": content_hash({}, config)}
        store.write(path, store.Group("mdls_cosim.surrogate", "1", wrong, {}, {}))
        with pytest.raises(StoreError, match="not laid out as a surrogate"):
            load(path).program(tensor([1e-5] * 3, [1e-5] * 3))
    other = {**whole, "domain": {**whole["domain"], "input_voltage": 9.0}}
    store.write(path, store.Group("mdls_cosim.surrogate", "1", other, {}, {}))
    with pytest.raises(StoreError, match="not what its content hash says"):
        load(path)
    store.write(path, store.Group("mdls_cosim.surrogate", "99", whole, {}, {}))
    with pytest.raises(StoreError, match="newer version"):
        load(path)


def written(surrogate, path, **changes) -> None:
    """A file of it with other attributes, its hash in order."""
    config = {**surrogate._config(), **changes}
    origin = {**surrogate.provenance.as_dict(), "config": config, "content_hash": content_hash({}, config)}
    store.write(path, store.Group("mdls_cosim.surrogate", "1", {**config, "provenance": origin}, {}, {}))


ERROR = {"rms": 0.01, "p99": 0.03, "classes": {"all": 0.01}, "bound": 0.02}


@pytest.mark.parametrize(
    "changes",
    [
        {"error": {**ERROR, "bound": -1.0}},
        {"error": {**ERROR, "rms": -0.01}},
        {"error": {**ERROR, "classes": {}}},
        {"error": {**ERROR, "classes": {"all": -0.01}}},
        {"domain": {**DOMAIN.as_dict(), "conductances": [1e-4, 1e-6]}},
        {"domain": {**DOMAIN.as_dict(), "input_voltage": -1.0}},
        {"domain": {**DOMAIN.as_dict(), "cell_voltage": 0.0}},
        {"domain": {**DOMAIN.as_dict(), "rows": -4}},
        {"domain": {**DOMAIN.as_dict(), "cols": 0}},
        {"coefficients": {**{name: list(values) for name, values in UNFITTED.items()}, "amplitude": [0.0]}},
        {"kind": "linear", "coefficients": {"third": [1.0]}},
        {"kind": "series", "coefficients": {"third": [1.0, 1.0], "fifth": [1.0, 1.0, 1.0], "rise": [1.0, 1.0]}},
        {"kind": "row_responses", "coefficients": {"amplitude": [-0.3], "conductances": [1e-6, 1e-4]}},
        {"kind": "row_responses", "coefficients": {"amplitude": [0.3], "conductances": [1e-4, 1e-6]}},
        {"kind": "row_responses", "coefficients": {"amplitude": [0.3], "conductances": [0.0, 0.0]}},
    ],
    ids=str,
)
def test_values_that_mean_nothing_are_refused(changes, surrogate, tmp_path):
    path = tmp_path / "s.h5"
    written(surrogate, path, error=ERROR)
    load(path)
    written(surrogate, path, **{"error": ERROR, **changes})
    with pytest.raises(StoreError, match="not laid out as a surrogate"):
        load(path)


def test_what_the_format_does_not_name_is_left_alone(surrogate, tmp_path):
    path = tmp_path / "s.h5"
    written(surrogate, path, colour="red")  # in `attributes` and in the configuration that is hashed
    group = store.read(path)
    extra = store.Array(np.arange(3.0), "V", ("x",))
    more = {"more": store.Group("other.type", "7", {}, {"inner": extra})}
    store.write(path, store.Group(group.encoding_type, "1", group.attributes, {"extra": extra}, more))
    assert load(path).spec == surrogate.spec
    store.write(path, store.Group(group.encoding_type, "1", {**group.attributes, "size": 3}, {}, {}))
    with pytest.raises(StoreError, match="content hash"):
        load(path)


@pytest.mark.parametrize("kind", [["a"], {"a": 1}, None, 3], ids=str)
def test_a_kind_that_is_no_name_is_refused(kind, surrogate, tmp_path):
    written(surrogate, tmp_path / "s.h5", kind=kind)
    with pytest.raises(StoreError, match="unknown kind of surrogate"):
        load(tmp_path / "s.h5")


def test_a_coefficient_must_be_finite(surrogate):
    with pytest.raises(InputError, match="not finite"):
        SeriesSurrogate(surrogate.spec, coefficients={**UNFITTED, "fifth": (np.nan,)})


def test_an_unlimited_domain_counts_only_reads(tile_spec):
    programmed = LinearSurrogate.exact(tile_spec(2, 3)).program(torch.zeros(2, 3, dtype=torch.float64))
    programmed(tensor([100.0, 1.0]))
    assert programmed.reads == 1
    assert set(programmed.outside.values()) == {0}


def test_wires_keep_cells_inside_the_domain(tile_spec):
    # Half of the row voltage is lost in the driver: the cell sees what it was fitted for.
    spec = tile_spec(1, 1, driver_resistance=1e5, sense_resistance=0.0, nonlinearity=3.0)
    domain = Domain(rows=1, cols=1, conductances=(1e-6, 1e-4), input_voltage=0.3, cell_voltage=0.16)
    programmed = SeriesSurrogate(spec, domain=domain, coefficients=UNFITTED).program(tensor([1e-5]))
    programmed(tensor([0.3]))
    assert programmed.outside == outside()


@pytest.fixture(scope="module")
def steep_columns(nodal_dataset, tile_spec) -> SeriesSurrogate:
    """Of tiles whose columns rise by a third of a volt."""
    spec = tile_spec(8, 4, nonlinearity=3.0, sense_resistance=2e3)
    found = fit(nodal_dataset(spec, tiles=3, vectors=3))
    assert isinstance(found, SeriesSurrogate)
    return found


ONE_AGAINST_SEVEN = torch.tensor([[0.299] * 7 + [-0.299]], dtype=torch.float64)


def test_rows_of_the_other_sign_count_to_a_cells_voltage(steep_columns):
    """Every input is inside, and one cell sees nearly one and a half of it."""
    cells = torch.full((8, 4), 1e-4, dtype=torch.float64)
    exact = float(NodalTile(steep_columns.spec).program(cells).cell_voltages(ONE_AGAINST_SEVEN).abs().max())
    assert exact > 1.4 * 0.299
    assert steep_columns.domain.cell_voltage < exact
    steep_columns.forget_told()
    programmed = steep_columns.program(cells)
    with pytest.warns(DomainWarning, match=r"cell voltage: got .0\.4\d* V, 1 time"):
        programmed(torch.cat([ONE_AGAINST_SEVEN.abs(), ONE_AGAINST_SEVEN, -ONE_AGAINST_SEVEN.abs()]))
    assert programmed.outside == outside(cell_voltage=1)
    # The other way round, and in a batch for each of several tiles.
    programmed(-ONE_AGAINST_SEVEN)
    assert programmed.outside == outside(cell_voltage=2)
    several = steep_columns.program(cells.expand(3, 8, 4))
    several(ONE_AGAINST_SEVEN.expand(3, 1, 8))
    several(ONE_AGAINST_SEVEN)
    assert several.reads == 6
    assert several.outside == outside(cell_voltage=6)


def test_inputs_that_the_fit_drew_from_are_inside(steep_columns):
    """A hundred times as many as it saw, among them the largest; any warning is an error here."""
    generator = np.random.default_rng(7)
    for kind in CONDUCTANCE_CLASSES:
        tiles = np.stack([draw_conductances(kind, 8, 4, (1e-6, 1e-4), generator) for _ in range(6)])
        programmed = steep_columns.program(torch.as_tensor(tiles))
        for each in INPUT_CLASSES:
            programmed(torch.as_tensor(draw_inputs(each, 60, 8, 0.3, generator)))
            programmed.power(torch.as_tensor(draw_inputs(each, 2, 8, 0.3, generator)))
        programmed(torch.full((1, 8), 0.3, dtype=torch.float64))
        assert not any(programmed.outside.values())
        assert programmed.reads == 6 * (len(INPUT_CLASSES) * 62 + 1)


@pytest.mark.parametrize("kind", ["series", "rows"])
def test_the_reach_of_a_read_is_that_of_kirchhoffs_laws(kind, tile_spec):
    spec = tile_spec(12, 6, nonlinearity=6.0, sense_resistance=300.0)
    surrogate = {
        "series": SeriesSurrogate(spec, coefficients=UNFITTED),
        "rows": RowResponses(spec, coefficients={"amplitude": (0.3,), "conductances": (1e-6, 1e-4)}),
    }[kind]
    generator = np.random.default_rng(1)
    cells = torch.as_tensor(draw_conductances("uniform", 12, 6, (1e-6, 1e-4), generator))
    voltages = torch.as_tensor(draw_inputs("signed", 12, 12, 0.3, generator))
    voltages[:2] = 0.3
    voltages[0, 5] = voltages[1, -1] = -0.3
    programmed = surrogate.program(cells)
    found = programmed.reach(voltages, programmed(voltages))
    exact = NodalTile(spec).program(cells).cell_voltages(voltages).abs().amax((-1, -2))
    assert float(exact.max()) > 1.1 * 0.3
    assert (found > 0.97 * exact).all()
    assert (found < 1.1 * exact).all()


def test_files_of_the_first_version_are_held_against_their_rows_own_drive(steep_columns, tmp_path):
    """Their limit was taken from such: the rise of the columns would be counted against less."""
    path = tmp_path / "first.h5"
    steep_columns.encoding_version = "1"
    try:
        steep_columns.save(path)
    finally:
        del steep_columns.encoding_version
    for _ in range(2):  # written again it is the same
        loaded = load(path)
        programmed = loaded.program(torch.full((8, 4), 1e-4, dtype=torch.float64))
        programmed(ONE_AGAINST_SEVEN)
        assert programmed.outside == outside()
        loaded.save(path)


@pytest.mark.parametrize("question", ["power", "cell_voltages"])
def test_other_questions_than_currents_are_inside_the_domain_too(question, tile_spec, surrogate):
    limit = Domain(rows=2, cols=3, input_voltage=0.3)
    linear, surrogate.domain = LinearSurrogate(tile_spec(2, 3), domain=limit), limit
    for model in (linear, surrogate) if question == "power" else (linear,):
        programmed = model.program(tensor([1e-5] * 3, [1e-5] * 3))
        with pytest.warns(DomainWarning, match=r"input voltage.*0\.4 V"):
            getattr(programmed, question)(tensor([0.4, 0.0], [0.1, 0.0]))
        assert programmed.outside["input voltage"] == 1
        assert programmed.reads == 2
        model.strict = True
        with pytest.raises(DomainError, match="input voltage"):
            getattr(programmed, question)(tensor([0.4, 0.0]))
