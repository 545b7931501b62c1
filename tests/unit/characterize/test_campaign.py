"""Campaigns: sizes, corners and seeds become groups and axes, failures become NaN with a reason, plans can change."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mdls_cosim.characterize import Campaign, Characterization, IvPlan, Journal, ReadPlan, characterize
from mdls_cosim.characterize.characterization import experiment_names
from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.errors import ConfigError, InputError, SpiceNoConvergence
from mdls_cosim.spice import EngineInfo, OperatingPoints, format_number
from mdls_cosim.surrogates import fit, left_out
from mdls_cosim.tiles import TileSpec

READ = ReadPlan(conductance_classes=("uniform",), input_classes=("dense",), tiles=3, vectors=2)
TILE = TileSpec(rows=3, cols=2, cell=Sinh(nonlinearity=3.0), row_line_resistance=1.0, temperature=300.0)


class FakeEngine:
    """Every probe reads a tenth of the sum of the sources; decks whose title holds a word of `broken` fail."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.decks = 0

    def run(self, deck, values):
        self.decks += 1
        if any(word in deck.standalone(values) for word in self.broken):
            raise SpiceNoConvergence("no operating point", where=deck.title, log="singular matrix")
        sums = values.sum(axis=1, keepdims=True) / 10
        return OperatingPoints(deck.probes, np.repeat(sums, len(deck.probes), axis=1), 0.0)

    def info(self):
        return EngineInfo("46", "klu", "1.5", "libngspice.so")

    def close(self):
        pass


def make(**changes) -> Characterization:
    return Characterization(**{"tile": TILE, "read": READ, "seed": 5, **changes})


def text(**changes) -> Characterization:
    """As from TOML."""
    tile = {
        "rows": 3,
        "cols": 2,
        "row_line_resistance": "1 ohm",
        "cell": {"model": "sinh", "nonlinearity": "3 / V"},
    }
    return Characterization.from_text_dict({"tile": tile, "read": {}, **changes}, "spec.toml")


class TestVariants:
    def test_one_tile_has_no_name(self):
        (variant,) = make().variants()
        assert (variant.name, variant.tile) == ("", TILE)
        assert [part.group for part in Campaign(make()).parts] == ["read"]

    def test_sizes_and_corners_multiply(self):
        spec = make(sizes=(2, (4, 3)), corners={"cold": TILE, "hot": TILE.replace(temperature=350.0)})
        found = [(each.name, each.tile.rows, each.tile.cols, each.tile.temperature) for each in spec.variants()]
        assert found == [
            ("2x2 cold", 2, 2, 300.0),
            ("4x3 cold", 4, 3, 300.0),
            ("2x2 hot", 2, 2, 350.0),
            ("4x3 hot", 4, 3, 350.0),
        ]

    def test_only_what_differs_is_in_the_name(self):
        assert [each.name for each in make(sizes=(2, 4)).variants()] == ["2x2", "4x4"]
        assert [each.name for each in make(sizes=(8,), corners={"hot": TILE}).variants()] == [""]

    def test_a_corner_in_toml_holds_what_differs(self):
        spec = text(corners={"hot": {"temperature": "350 K"}, "steep": {"cell": {"nonlinearity": "6 / V"}}, "same": {}})
        assert spec.corners["hot"] == TILE.replace(temperature=350.0)
        assert spec.corners["steep"] == TILE.replace(cell=Sinh(nonlinearity=6.0))
        assert spec.corners["same"] == TILE

    def test_a_corner_with_another_cell_takes_nothing_from_the_tiles(self):
        assert text(corners={"plain": {"cell": {"model": "ohmic"}}}).corners["plain"] == TILE.replace(cell=Ohmic())

    def test_corners_of_a_tile_made_in_python(self):
        assert make(corners={"hot": {"temperature": 350.0}}).corners["hot"] == TILE.replace(temperature=350.0)

    def test_the_configuration_comes_back_whole(self):
        spec = make(sizes=(2, (4, 3)), corners={"hot": {"temperature": 350.0}}, seeds=3)
        assert Characterization(**spec.as_dict()) == spec

    def test_experiments_are_found_by_their_fields(self):
        assert {"iv", "read"} <= set(experiment_names())
        assert list(make(iv=IvPlan()).experiments) == ["iv", "read"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"corners": {"hot": {"temperature": 350}}}, [r"corners\.hot\.temperature", "350 K|300 K"]),
        ({"corners": {"hot": {"temprature": "350 K"}}}, [r"corners\.hot\.temprature", "Did you mean temperature"]),
        ({"corners": {"hot": {"cell": {"model": "cosh"}}}}, [r"corners\.hot\.cell\.model", "cosh"]),
        ({"corners": {"a/b": {}}}, ["not a name for a corner", "a/b"]),
        ({"corners": {"8x8": {}}}, ["not a name for a corner", "8x8"]),
        ({"corners": "hot"}, ["corners", "table"]),
        ({"sizes": [4, [4, 4]]}, ["a size is given twice", "4x4"]),
        ({"sizes": [0]}, ["sizes"]),
        ({"sizes": [[4, 4, 4]]}, ["sizes"]),
        ({"sizes": ["big"]}, ["sizes", "big"]),
        ({"seeds": 0}, ["seeds"]),
        ({"read": None}, ["no experiment is asked for", r"\[iv\]", r"\[read\]"]),
    ],
    ids=str,
)
def test_bad_plans_name_the_field(changes, told):
    with pytest.raises(ConfigError) as caught:
        text(**changes)
    assert "\n" not in str(caught.value)
    for part in told:
        assert re.search(part, str(caught.value)), str(caught.value)


def test_an_experiment_that_cannot_be_planned_says_where(monkeypatch):
    def refuse(self, tile, span, seed):
        if tile.rows == 4:
            raise InputError("too few rows", where="read.tiles", value=4, limit="5")
        return []

    monkeypatch.setattr(ReadPlan, "make_points", refuse)
    with pytest.raises(
        ConfigError, match=r"cannot be planned: too few rows at read 4x4, read\.tiles: got 4, allowed 5"
    ):
        Campaign(make(sizes=(2, 4)))


class TestDataset:
    def test_the_numbers_of_one_seed_are_those_of_each_alone(self):
        both = characterize(make(seeds=2, iv=IvPlan(points=3, cells=2)), engine=FakeEngine())
        for offset in (0, 1):
            alone = characterize(make(seed=5 + offset, iv=IvPlan(points=3, cells=2)), engine=FakeEngine())
            for experiment, arrays in alone.experiments.items():
                for name, array in arrays.items():
                    stacked = both.experiments[experiment][name]
                    np.testing.assert_array_equal(stacked.values[offset], array.values)
                    assert stacked.dims == ("seed", *array.dims)
                    assert stacked.units == array.units
        assert not np.array_equal(*both.experiments["read"]["conductances"].values)

    def test_groups_and_variants(self, tmp_path):
        spec = make(sizes=(2, (4, 3)), corners={"cold": TILE, "hot": {"temperature": 350.0}}, iv=IvPlan(points=3))
        dataset = characterize(spec, engine=FakeEngine())
        dataset.save(tmp_path / "d.h5")
        assert sorted(dataset.experiments) == sorted(
            f"{experiment} {size} {corner}"
            for experiment in ("iv", "read")
            for size in ("2x2", "4x3")
            for corner in ("cold", "hot")
        )
        found = Dataset.load(tmp_path / "d.h5").variants("read")
        assert {(each.label, each.rows, each.cols, each.corner) for each in found} == {
            ("2x2 cold", 2, 2, "cold"),
            ("4x3 cold", 4, 3, "cold"),
            ("2x2 hot", 2, 2, "hot"),
            ("4x3 hot", 4, 3, "hot"),
        }
        for each in found:
            assert each.arrays["currents"].values.shape == (3, 2, each.cols)
        assert dataset.variants("sneak") == ()

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({}, ("", 3, 2, None)),
            ({"sizes": (4,)}, ("", 4, 4, None)),
            ({"sizes": ((4, 3),)}, ("", 4, 3, None)),
            ({"corners": {"hot": TILE.replace(rows=5)}}, ("", 5, 2, "hot")),
        ],
    )
    def test_a_single_variant_knows_its_tile(self, changes, told):
        (variant,) = characterize(make(**changes), engine=FakeEngine()).variants("read")
        assert (variant.label, variant.rows, variant.cols, variant.corner) == told
        assert variant.arrays["currents"].values.shape == (3, 2, told[2])

    def test_single_cells_are_not_solved_again_for_every_size(self):
        engine = FakeEngine()
        characterize(make(sizes=(2, 4), seeds=3, read=None, iv=IvPlan(points=3, cells=2)), engine=engine)
        assert engine.decks == 2


def first_conductance(dataset: Dataset, tile: int) -> str:
    """The text of a number that only the deck of this tile holds."""
    return format_number(float(dataset.experiments["read"]["conductances"].values[tile, 0, 0]))


class TestFailures:
    @pytest.fixture
    def whole(self) -> Dataset:
        return characterize(make(), engine=FakeEngine())

    def test_they_are_nan_and_told(self, whole, tmp_path):
        summary = Campaign(make()).run(engine=FakeEngine(first_conductance(whole, 1)))
        summary.dataset.save(tmp_path / "d.h5")
        loaded = Dataset.load(tmp_path / "d.h5")
        assert loaded == summary.dataset
        currents = loaded.experiments["read"]["currents"].values
        assert np.isnan(currents[1]).all()
        np.testing.assert_array_equal(currents[[0, 2]], whole.experiments["read"]["currents"].values[[0, 2]])
        (failure,) = loaded.failures
        assert (failure.experiment, failure.label, failure.attempts) == ("read", "read, tile 1", 1)
        assert "no operating point" in failure.cause
        assert failure.log == "singular matrix"
        assert first_conductance(whole, 1) in failure.deck
        assert failure.deck.endswith(".end\n")
        assert (summary.points, summary.failed, summary.reused, summary.operating_points) == (3, 1, 0, 6)

    def test_they_are_outside_of_the_content_hash_and_tried_again(self, whole, tmp_path):
        broken = first_conductance(whole, 1)
        for tries in (1, 2):
            with Journal.open(tmp_path / "j", resume=True) as journal:
                summary = Campaign(make()).run(engine=FakeEngine(broken), journal=journal)
            assert summary.dataset.failures[0].attempts == tries
            assert summary.reused == (2 if tries == 2 else 0)
        engine = FakeEngine()
        with Journal.open(tmp_path / "j", resume=True) as journal:
            summary = Campaign(make()).run(engine=engine, journal=journal)
        assert (summary.failed, summary.reused, engine.decks) == (0, 2, 1)
        assert summary.dataset.failures == ()
        assert summary.dataset.content_hash == whole.content_hash

    def test_the_python_verb_raises_unless_told_otherwise(self, whole):
        engine = FakeEngine(first_conductance(whole, 1))
        with pytest.raises(SpiceNoConvergence):
            characterize(make(), engine=engine)
        assert len(characterize(make(), engine=engine, strict=False).failures) == 1


def test_a_changed_plan_takes_what_it_shares(tmp_path):
    with Journal.open(tmp_path / "j") as journal:
        Campaign(make()).run(engine=FakeEngine(), journal=journal)
    more = make(seeds=2, iv=IvPlan(points=3, cells=2))
    assert Campaign(more).plan_hash != Campaign(make()).plan_hash
    engine = FakeEngine()
    with Journal.open(tmp_path / "j", resume=True) as journal:
        assert journal.count(Campaign(more).points) == 3
        summary = Campaign(more).run(engine=engine, journal=journal)
    assert (summary.points, summary.reused, engine.decks) == (8, 3, 5)
    assert summary.dataset == characterize_like(more, summary.dataset)


def characterize_like(spec: Characterization, dataset: Dataset) -> Dataset:
    """The Dataset of an uninterrupted run, with the other's time."""
    fresh = characterize(spec, engine=FakeEngine())
    origin = fresh.provenance.replace(created_utc=dataset.provenance.created_utc)
    return Dataset(fresh.experiments, fresh.config, origin)


@pytest.fixture(scope="module")
def data(nodal_dataset) -> Dataset:
    """Of an exact solver, for fits."""
    spec = TileSpec(rows=4, cols=3, cell=Sinh(nonlinearity=3.0), row_line_resistance=2.0, sense_resistance=5.0)
    return nodal_dataset(spec, iv=True, tiles=4, vectors=3)


class TestFit:
    @staticmethod
    def spoiled(data: Dataset, tiles, cells=()) -> Dataset:
        """`data` as it is where some points failed."""
        experiments = {name: dict(arrays) for name, arrays in data.experiments.items()}
        for name, lost in (("read", tiles), ("iv", cells)):
            values = experiments[name]["currents"].values.copy()
            values[list(lost)] = np.nan
            experiments[name]["currents"] = type(experiments[name]["currents"])(
                values, "A", experiments[name]["currents"].dims
            )
        return Dataset.create(experiments, data.config, seed=0)

    def test_failed_tiles_and_cells_are_left_out(self, data):
        partial = self.spoiled(data, tiles=[0, 7, 12], cells=[2])
        assert left_out(partial) == {"read": 3, "iv": 1}
        surrogate = fit(partial)
        assert surrogate.spec.row_line_resistance == pytest.approx(2.0, rel=1e-3)
        assert surrogate.spec.cell.nonlinearity == pytest.approx(3.0, rel=1e-3)
        assert surrogate.error is not None
        assert np.isfinite(surrogate.error.bound)
        assert left_out(data) == {}

    def test_too_few_left_is_said(self, data):
        with pytest.raises(InputError, match="a fit needs tiles"):
            fit(self.spoiled(data, tiles=range(1, 20)))

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"sizes": (2, 4)}, "several tiles.*2x2, 4x4.*one size and one corner"),
            ({"corners": {"cold": TILE, "hot": TILE}}, "several tiles.*cold, hot"),
            ({"seeds": 2}, "several seeds.*2 seeds.*more `tiles`"),
        ],
    )
    def test_several_tiles_or_seeds_are_refused(self, changes, told):
        with pytest.raises(InputError, match=told):
            fit(characterize(make(**changes), engine=FakeEngine()))

    def test_the_tile_of_a_single_corner_and_size_is_the_reference(self, data):
        config = data.config | {"corners": {"hot": data.config["tile"] | {"temperature": 350.0}}, "sizes": [[4, 3]]}
        config["tile"] = config["tile"] | {"rows": 9}
        surrogate = fit(Dataset.create(data.experiments, config, seed=0))
        assert surrogate.reference_spec is not None
        assert (surrogate.reference_spec.rows, surrogate.reference_spec.temperature) == (4, 350.0)
        assert surrogate.spec.temperature == 350.0
