"""Simulations: what an experiment says is run, in whatever order and by whomever, and told without a change."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdls_cosim.analog import Hardware, Moment
from mdls_cosim.characterize import Journal, draw
from mdls_cosim.errors import ConfigError, ConvergenceError, ExecutorError, MdlsError, StoreError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.network import calibrate_columns, compensate_drift, convert, evaluate, on_rung
from mdls_cosim.network.experiment import Simulation, SimulationResult, Subject, Work
from mdls_cosim.network.experiment import units as units_module
from mdls_cosim.network.experiment.surrogates import label_plan
from mdls_cosim.network.experiment.units import solve
from mdls_cosim.store import Array
from mdls_cosim.surrogates import SeriesSurrogate, fit_to_exact
from mdls_cosim.surrogates.series import START
from mdls_cosim.tiles import TileSpec

TILE = {"rows": 32, "cols": 16, "row_line_resistance": "2 ohm", "column_line_resistance": "2 ohm"}
SINH = {"model": "sinh", "nonlinearity": "3 / V"}
ADC = DAC = {"kind": "uniform", "bits": 5}
SPREAD = {"effects": [{"effect": "programming_error", "absolute": "10 uS"}]}


def tables(**changes: Any) -> dict[str, Any]:
    """An experiment as its TOML file has it."""
    return {
        "model": {"name": "mlp", "options": {"hidden": [16]}},
        "train": {"epochs": 4, "learning_rate": 1e-2},
        "hardware": {"tile": TILE, "adc": ADC, "dac": DAC, "variability": SPREAD, "weight_clip": 2.0},
        "images": 60,
        "runs": 2,
        "seed": 3,
        "layer_images": 8,
        **changes,
    }


def simulation(folder: Path | str = "", **changes: Any) -> Simulation:
    return Simulation.from_text_dict(tables(**changes), "experiment.toml", folder=str(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the network of these tests is kept once it is trained."""
    return tmp_path_factory.mktemp("weights")


def work(folder: Path, **changes: Any) -> Work:
    asked = simulation(**changes)
    return Work(asked, Subject.load(asked, folder))


class TestPlan:
    def test_every_key_is_a_curve_about_the_base(self) -> None:
        plan = simulation(sweep={"tile.row_line_resistance": ["0 ohm", "5 ohm"], "adc.bits": [3, 4, 6]}).plan()
        assert [point.label for point in plan.points[:2]] == ["base", "tile.row_line_resistance = 0 ohm"]
        wires, bits = plan.sweeps
        assert [plan.points[index].hardware.spec.row_line_resistance for index in wires.points] == [0.0, 5.0]
        assert all(plan.points[index].hardware.adc == plan.points[0].hardware.adc for index in wires.points)
        assert all(plan.points[index].hardware.spec.row_line_resistance == 2.0 for index in bits.points)
        assert (wires.axes[0].unit, wires.axes[0].values.tolist()) == ("ohm", [0.0, 5.0])
        assert (bits.axes[0].unit, bits.axes[0].values.tolist()) == ("", [3.0, 4.0, 6.0])

    def test_keys_without_quotation_marks_are_the_same(self) -> None:
        assert simulation(sweep={"adc": {"bits": [3, 4]}}) == simulation(sweep={"adc.bits": [3, 4]})

    def test_several_fields_that_change_together(self) -> None:
        key = "tile.row_line_resistance, tile.column_line_resistance"
        plan = simulation(sweep={key: ["0 ohm", "7 ohm"]}).plan()
        last = plan.points[-1].hardware.spec
        assert (last.row_line_resistance, last.column_line_resistance) == (7.0, 7.0)

    def test_grid_is_the_product(self) -> None:
        sweep = {"grid": True, "states": [2, 4, 8], "read_voltage": ["0.1 V", "200 mV"]}
        plan = simulation(sweep=sweep).plan()
        (grid,) = plan.sweeps
        assert grid.points.shape == (3, 2)
        found = plan.points[grid.points[2, 1]].hardware
        assert (found.states, found.read_voltage) == (8, 0.2)
        assert grid.axes[1].unit == "V"

    def test_effects_of_variability_go_by_name(self) -> None:
        sweep = {"variability.effects.programming_error.absolute": ["1 uS", "5 uS"]}
        plan = simulation(sweep=sweep).plan()
        assert [point.hardware.variability.effects[0].absolute for point in plan.points] == [1e-5, 1e-6, 5e-6]  # pyright: ignore[reportAttributeAccessIssue]
        assert plan.sweeps[0].axes[0].unit == "S"

    def test_values_that_are_no_numbers(self) -> None:
        (sweep,) = simulation(sweep={"rung": ["ideal", "nodal"]}).plan().sweeps
        assert not sweep.axes[0].numeric
        assert sweep.axes[0].texts == ("ideal", "nodal")

    def test_combinations_of_two_among_other_sweeps(self) -> None:
        plan = simulation(sweep={"states x adc.bits": [[2, 4, 8], [3, 6]], "read_voltage": ["0.1 V"]}).plan()
        both, alone = plan.sweeps
        assert (both.name, both.points.shape, alone.points.shape) == ("states x adc.bits", (3, 2), (1,))
        found = plan.points[both.points[2, 1]].hardware
        assert (found.states, found.adc.as_dict()["bits"], found.read_voltage) == (8, 6, 0.2)
        assert [axis.values.tolist() for axis in both.axes] == [[2, 4, 8], [3, 6]]

    def test_reading_is_swept_beside_the_hardware(self) -> None:
        sweep = {"time": ["0 s", "1 day"], "temperature": ["350 K"], "compensation": ["columns"], "states": [4]}
        plan = simulation(time="1 hour", temperature="310 K", sweep=sweep).plan()
        told = [(each.reading.time, each.reading.temperature, each.reading.compensation) for each in plan.points]
        hour = 3600.0
        assert told == [
            (hour, 310.0, "none"),
            (0.0, 310.0, "none"),
            (86400.0, 310.0, "none"),
            (hour, 350.0, "none"),
            (hour, 310.0, "columns"),
            (hour, 310.0, "none"),
        ]
        assert all(each.hardware == plan.points[0].hardware for each in plan.points[:-1])
        assert plan.points[3].reading.moment == Moment(hour, 350.0)
        assert [sweep.axes[0].unit for sweep in plan.sweeps] == ["s", "K", "", ""]
        assert [sweep.axes[0].numeric for sweep in plan.sweeps] == [True, True, False, True]

    def test_rules_hold_at_every_point(self) -> None:
        asked = simulation(rules={"head": {"adc": {"bits": 8}}, "hidden*": "digital"}, sweep={"states": [2]})
        for point in asked.plan().points:
            head = point.rules["head"]
            assert head is not None
            assert head.adc.as_dict() == {**point.hardware.adc.as_dict(), "bits": 8}
            assert head.states == point.hardware.states
            assert point.rules["hidden*"] is None

    def test_tile_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "spec.toml").write_text('[tile]\nrows = 7\ncols = 5\nsense_resistance = "3 ohm"\n[read]\n')
        asked = simulation(tmp_path, hardware={"tile": "spec.toml"}, sweep={"tile.sense_resistance": ["9 ohm"]})
        base, swept = (point.hardware.spec for point in asked.plan().points)
        assert (base.rows, base.sense_resistance, swept.rows, swept.sense_resistance) == (7, 3.0, 7, 9.0)

    def test_surrogate_of_a_file(self, tmp_path: Path) -> None:
        SeriesSurrogate(TileSpec(rows=7, cols=5), coefficients={**START, "amplitude": (0.3,)}).save(
            tmp_path / "fitted.h5"
        )
        (base,) = simulation(tmp_path, hardware={"surrogate": "fitted.h5"}).plan().points
        assert isinstance(base.hardware.tile, SeriesSurrogate)
        with pytest.raises(ConfigError, match=r"no fields of its own.*give the tile as a table"):
            simulation(tmp_path, hardware={"surrogate": "fitted.h5"}, sweep={"tile.rows": [4]}).plan()

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"sweep": {"adc.bist": [3]}}, r"unknown key at .*sweep adc\.bist = 3.*Did you mean bits\?"),
            ({"sweep": {"tile.row_resistance": ["1 ohm"]}}, r"unknown key.*Did you mean row_line_resistance\?"),
            ({"sweep": {"tile.row_line_resistance": [1]}}, "number without its unit"),
            ({"sweep": {"tile.row_line_resistance": ["1 S"]}}, "wrong dimension"),
            (
                {"sweep": {"variability.effects.drift.relative": [1]}},
                r"no such member.*effects\.programming_error\.FIELD",
            ),
            ({"sweep": {"adc.bits": []}}, r"an empty sweep at .*adc\.bits"),
            ({"sweep": {"adc.bits": 3}}, "a sweep takes a list"),
            ({"sweep": {"grid": 1, "adc.bits": [3]}}, "true or false"),
            ({"sweep": {"states x adc.bits": [3, 4]}}, r"list of values for each.*2 lists in a list"),
            ({"sweep": {"states x adc.bits": [[3, 4]]}}, r"list of values for each.*2 lists in a list"),
            ({"sweep": {"states x adc.bits": [[3, 4], []]}}, "an empty sweep"),
            ({"sweep": {"states x states": [[3, 4], [5]]}}, "varied twice"),
            ({"sweep": {"tmie": ["3 s"]}}, r"unknown key at .*tmie.*Did you mean time\?"),
            ({"sweep": {"time": [3]}}, r"number without its unit at .*sweep time = 3"),
            ({"sweep": {"temperature": ["1 day"]}}, "wrong dimension"),
            ({"sweep": {"compensation": ["drfit"]}}, "Did you mean drift"),
            ({"time": "-1 s"}, "an impossible value at .*time"),
            ({"hardware": {"tile": TILE, "time": "1 s"}}, r"no hardware at .*hardware\.time.*above all tables"),
            ({"sweep": {"states.more": [3]}, "hardware": {"tile": TILE, "states": 4}}, "no fields of its own"),
            ({"hardware": {"tile": {"rows": 4, "cols": 4, "sense_resistance": 3}}}, "number without its unit"),
            ({"hardware": {"tile": TILE, "states": 1}}, "states"),
            ({"hardware": {"tile": TILE, "surrogate": "a.h5"}}, "one of them"),
            ({"hardware": {}}, "one of them"),
            ({"hardware": {"tile": "none.toml"}}, r"no such file at .*none\.toml"),
            ({"hardware": {"surrogate": "none.h5"}}, r"no such file at .*none\.h5"),
            ({"model": {"name": "mlp", "factory": "a:b"}}, "one of them"),
            ({"model": {"name": "mlp"}, "train": None}, "without weights"),
            ({"model": {"name": "mlp", "weights": "w.safetensors"}}, "not trained"),
            ({"data": {"name": "cifar10"}}, "without their place"),
            ({"data": {"name": "digit"}}, "Did you mean digits"),
            ({"runs": 0}, "runs"),
            ({"imagse": 4}, "Did you mean images"),
            ({"folder": "."}, r"unknown key at .*folder: allowed .*layer_images"),
            ({"calibration": {"on": "ideal"}, "rules": {"head": {"rung": "nodal"}}}, "calibrated on ideal tiles"),
        ],
    )
    def test_mistakes_are_told(self, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
        given = {name: value for name, value in tables(**changes).items() if value is not None}
        with pytest.raises(MdlsError, match=said) as raised:
            Simulation.from_text_dict(given, "experiment.toml", folder=str(tmp_path)).plan("experiment.toml")
        assert "\n" not in str(raised.value)
        assert ", folder" not in str(raised.value)

    def test_the_folder_goes_with_it(self, tmp_path: Path) -> None:
        asked = simulation(tmp_path)
        for twin in (asked, copy.deepcopy(asked), pickle.loads(pickle.dumps(asked))):
            assert twin.resolve("a.toml") == tmp_path / "a.toml"
        assert "folder" not in asked.as_dict()


class TestSubject:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"model": {"name": "mpl"}}, r"no such model.*Did you mean mlp\?"),
            ({"model": {"name": "mlp", "options": {"depth": 3}}}, "no such option of mlp.*depth"),
            ({"data": {"options": {"sise": 8}}}, "no such option.*Did you mean size"),
            ({"model": {"factory": "nowhere:make"}}, "no such module"),
            ({"model": {"factory": "torch.nn:Identity"}}, "no classifier of these data"),
            ({"model": {"factory": "torch.nn:Linear", "options": {"in_features": 3, "out_features": 10}}}, "not take"),
            ({"data": {"name": "npz", "path": "none.npz"}}, r"no such file or folder at .*none\.npz"),
        ],
    )
    def test_mistakes_are_told(self, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
        with pytest.raises(MdlsError, match=said):
            Subject.load(simulation(tmp_path, **changes), tmp_path, "experiment.toml")

    def test_missing_weights(self, tmp_path: Path) -> None:
        given = tables(model={"name": "mlp", "weights": "w.safetensors"})
        del given["train"]
        with pytest.raises(ConfigError, match=r"no such file or folder at .*model\.weights"):
            Subject.load(Simulation.from_text_dict(given, folder=str(tmp_path)), tmp_path)

    def test_rule_that_matches_nothing(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match=r"a rule matches no layer.*heda.*head"):
            work(folder, rules={"heda": "digital"})

    @pytest.mark.parametrize(
        ("changes", "place"),
        [
            ({"rules": {"heda": "digital"}}, "rules"),
            ({"compensation": "batch_norm"}, "compensation"),
            ({"sweep": {"compensation": ["none", "batch_norm"]}}, "sweep compensation = batch_norm"),
            ({"sweep": {"time x compensation": [["1 day"], ["batch_norm"]]}}, "sweep time = 1 day, compensation"),
        ],
    )
    def test_what_the_network_lacks_is_told_before_it_is_trained(
        self, changes: dict[str, Any], place: str, tmp_path: Path
    ) -> None:
        told: list[str] = []
        with pytest.raises(ConfigError, match=f"experiment.toml: {place}"):
            Subject.load(simulation(**changes), tmp_path, "experiment.toml", told.append)
        assert told == ["loading the data"]
        # A network that has some is taken.
        if "rules" not in changes:
            norms = {"name": "vgg8", "options": {"width": 4}}
            Subject.load(simulation(**changes, model=norms, data={"options": {"size": 32}}), None)

    def test_training_is_kept_and_seeded(self, tmp_path: Path) -> None:
        told: list[str] = []
        first = Subject.load(simulation(), tmp_path / "a", stage=told.append)
        again = Subject.load(simulation(), tmp_path / "a", stage=told.append)
        fresh = Subject.load(simulation(), tmp_path / "b")
        other = Subject.load(simulation(seed=4), tmp_path / "a")
        assert [said.split()[0] for said in told] == ["loading", "training", "loading", "weights"]
        assert first.hashes == again.hashes == fresh.hashes
        assert other.hashes["model"] != first.hashes["model"]
        assert other.hashes["data"] == first.hashes["data"]

    def test_training_that_was_damaged_is_done_again(self, tmp_path: Path) -> None:
        first = Subject.load(simulation(), tmp_path)
        (file,) = tmp_path.glob("weights-*.safetensors")
        file.write_bytes(file.read_bytes()[:-50])
        assert Subject.load(simulation(), tmp_path).hashes == first.hashes


@pytest.fixture(scope="module")
def found(folder: Path) -> tuple[Work, SimulationResult]:
    """A simulation that has run."""
    asked = work(folder, sweep={"adc.bits": [2, 5], "tile.row_line_resistance": ["20 ohm"]})
    return asked, asked.run(folder, workers=1).result


class TestRun:
    def test_is_what_convert_and_evaluate_say(self, found: tuple[Work, SimulationResult]) -> None:
        asked, result = found
        bench = asked.bench
        for array, hardware in (
            (result.base, asked.plan.points[0].hardware),
            (result.sweeps["adc.bits"], asked.plan.points[1].hardware),
        ):
            model, report = convert(asked.subject.model, hardware, seed=3, calibration=bench.calibration)
            told = evaluate(model, (bench.images, bench.labels), runs=2, seed=3)
            accuracy = array["accuracy"].values.reshape(-1, 2)[0]
            assert accuracy.tolist() == list(told.runs)
            assert array["accuracy_mean"].values.flat[0] == pytest.approx(told.mean, rel=1e-12)
            assert array["accuracy_std"].values.flat[0] == pytest.approx(told.std, rel=1e-9, abs=1e-12)
            for name in ("dac_saturated", "adc_saturated", "reads"):
                counted = array[name].values.reshape(-1, 2, 2)[0].sum(0)
                assert counted.tolist() == [getattr(each, name) for each in told.counters.values()]
            for k, name in enumerate(("clipped_weights", "clipped_conductances")):
                counted = array[name].values.reshape(-1, 2, 2)[0]
                assert counted.tolist() == [[each[layer][k] for layer in each] for each in told.clipped]
                assert array[f"{name}_per_chip"].values.flat[0] == counted.sum() / 2 > 0
                assert array[f"{name}_per_chip_by_layer"].values.reshape(-1, 2)[0].tolist() == counted.mean(0).tolist()
            converted = [(layer.clipped_weights, layer.clipped_conductances) for layer in report.converted]
            assert list(told.clipped[0].values()) == converted  # of the same seed
            assert told.clipped[1] != told.clipped[0]

    def test_fewer_bits_are_worse_and_the_base_is_among_the_values(self, found: tuple[Work, SimulationResult]) -> None:
        _, result = found
        two, five = result.sweeps["adc.bits"]["accuracy_mean"].values
        assert two < five
        assert five == result.base["accuracy_mean"].values

    def test_float_accuracy(self, found: tuple[Work, SimulationResult]) -> None:
        asked, result = found
        with torch.no_grad():
            right = (asked.subject.model(asked.bench.images).argmax(1) == asked.bench.labels).float().mean()
        assert result.base["float_accuracy"].values == pytest.approx(float(right), abs=1e-6)
        assert right > 0.6  # it has learned something

    def test_same_points_are_run_once(self, found: tuple[Work, SimulationResult]) -> None:
        asked, _ = found
        keys = [unit.key for each in asked.units({}) for unit in each]
        assert (len(keys), len(set(keys))) == (9, 7)  # adc.bits = 5 is the base

    def test_whatever_decides_the_numbers_is_in_the_key(
        self, found: tuple[Work, SimulationResult], tmp_path: Path
    ) -> None:
        asked, _ = found

        def key(**changes: Any) -> str:
            return Work(simulation(tmp_path, **changes), asked.subject).units({})[0][0].key

        for name, fifth in (("one", 1.0), ("other", 1.1)):
            coefficients = {**START, "amplitude": (0.3,), "fifth": (fifth,)}
            SeriesSurrogate(TileSpec(rows=7, cols=5), coefficients=coefficients).save(tmp_path / f"{name}.h5")
        different = (
            key(),
            key(seed=4),
            key(images=59),
            key(rules={"head": "digital"}),
            key(rules={"head": {"states": 3}}),
            key(calibration={"on": "ideal"}),
            key(time="1 s"),
            key(temperature="310 K"),
            key(compensation="columns"),
            key(batch_size=13),  # noise of every read is drawn batch by batch
            key(output=0),
            key(hardware={"surrogate": "one.h5"}),
            key(hardware={"surrogate": "other.h5"}),
        )
        assert len(set(different)) == len(different)
        assert key() == key(runs=7, sweep={"states": [2]})

    def test_chips_without_spread_are_one(self, folder: Path) -> None:
        asked = work(folder, hardware={"tile": TILE, "adc": ADC}, runs=5)
        found = asked.run(folder, workers=1)
        assert found.units == 2  # the chip, and its layers
        assert len(set(found.result.base["accuracy"].values)) == 1
        assert found.result.base["accuracy_std"].values == 0

    def test_first_layer_has_no_errors_before_it(self, found: tuple[Work, SimulationResult]) -> None:
        alone, in_network = (found[1].base[name].values for name in ("layer_error", "layer_error_in_network"))
        assert alone[0] == in_network[0] > 1e-3
        assert alone[1] != in_network[1]

    def test_order_does_not_matter(self, found: tuple[Work, SimulationResult]) -> None:
        asked, _ = found
        base = asked.units({})[0]
        units_module.here.benches["test"] = asked.bench
        try:
            forth = [solve(unit, "test").results for unit in base]
            units_module.here.local.converted = None
            back = [solve(unit, "test").results for unit in reversed(base)][::-1]
        finally:
            del units_module.here.benches["test"]
        for one, other in zip(forth, back, strict=True):
            assert one is not None
            assert other is not None
            assert all(np.array_equal(one[name], other[name]) for name in one)

    def test_any_executor(self, found: tuple[Work, SimulationResult], folder: Path) -> None:
        asked, result = found
        with ThreadPoolExecutor(2) as pool:
            assert asked.run(folder, executor=pool).result.content_hash == result.content_hash

    def test_ideal_hardware_has_no_errors(self, folder: Path) -> None:
        hardware = {"tile": {"rows": 32, "cols": 16}, "rung": "ideal"}
        result = work(folder, hardware=hardware, runs=1).run(folder, workers=1).result
        assert (result.base["layer_error_in_network"].values < 1e-5).all()
        assert result.base["accuracy_mean"].values == result.base["float_accuracy"].values
        assert np.isnan(result.base["accuracy_std"].values)

    def test_reading_later_and_compensated(self, folder: Path) -> None:
        drift = {"effects": [{"effect": "drift", "exponent": 0.3, "exponent_spread": 0.1, "start_time": "1 s"}]}
        hardware = {"tile": TILE, "adc": ADC, "dac": DAC, "variability": drift}
        sweep = {"time": ["1 hour"], "time x compensation": [["1 hour"], ["none", "drift", "columns"]]}
        asked = work(folder, hardware=hardware, sweep=sweep, calibration={"images": 50})
        result = asked.run(folder, workers=1).result
        bench, own = asked.bench, asked.plan.points[0].hardware
        moment, accuracies = Moment.of("1 hour"), []
        prepared = (None, compensate_drift, lambda model: calibrate_columns(model, bench.calibration))
        for prepare in prepared:
            model, _ = convert(asked.subject.model, own, seed=3, calibration=bench.calibration)
            told = evaluate(model, (bench.images, bench.labels), 2, 3, moment=moment, prepare=prepare)
            accuracies.append(list(told.runs))
        assert result.sweeps["time x compensation"]["accuracy"].values[0].tolist() == accuracies
        assert result.sweeps["time"]["accuracy"].values[0].tolist() == accuracies[0]
        assert result.base["accuracy_mean"].values > np.mean(accuracies[0])
        assert np.mean(accuracies[2]) > np.mean(accuracies[0])

    def test_errors_of_layers_are_those_of_the_reading(self, folder: Path) -> None:
        drift = {"effects": [{"effect": "drift", "exponent": 0.1, "start_time": "1 s"}]}
        given = {"hardware": {"tile": {"rows": 32, "cols": 16}, "variability": drift}, "runs": 1}
        later = work(folder, **given, time="1 hour").run(folder, workers=1).result
        corrected = work(folder, **given, time="1 hour", compensation="drift").run(folder, workers=1).result
        lost = 1 - 3600**-0.1
        assert later.base["layer_error"].values == pytest.approx(lost, rel=0.2)  # biases are digital
        assert (corrected.base["layer_error"].values < 1e-4).all()

    def test_products_past_any_layer_are_among_what_is_not_on_tiles(self, tmp_path: Path) -> None:
        (tmp_path / "network_with_a_table.py").write_text(
            "import torch\n"
            "class Net(torch.nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.body = torch.nn.Linear(64, 8)\n"
            "        self.register_buffer('table', torch.ones(8, 10))\n"
            "    def forward(self, x):\n"
            "        return self.body(x.flatten(1)) @ self.table\n"
        )
        given = tables(model={"factory": "network_with_a_table:Net"}, runs=1)
        del given["train"]
        asked = Simulation.from_text_dict(given, folder=str(tmp_path))
        result = Work(asked, Subject.load(asked, tmp_path)).run(tmp_path, workers=1).result
        assert ["table", "weights", "multiplied by past any layer"] in result.config["skipped"]

    def test_lost_workers_are_told(self, found: tuple[Work, SimulationResult], folder: Path) -> None:
        class Broken(ThreadPoolExecutor):
            def submit(self, *task: Any, **named: Any) -> Any:
                raise BrokenExecutor("they left")

        with pytest.raises(ExecutorError, match=r"lost its workers \(BrokenExecutor: they left\).*--resume"):
            found[0].run(folder, executor=Broken())

    def test_torch_device_that_is_not_here(self, found: tuple[Work, SimulationResult], folder: Path) -> None:
        asked, _ = found
        elsewhere = Work(asked.simulation, asked.subject, torch_device="cuda:99")
        assert elsewhere.units({})[0][0].key != asked.units({})[0][0].key
        with pytest.raises(ConfigError, match=r"torch cannot compute here.*'?cuda:99'?.*cpu"):
            elsewhere.run(folder, workers=1)

    def test_calibration_on_ideal_tiles(self, folder: Path) -> None:
        wires = {**TILE, "row_line_resistance": "100 ohm", "column_line_resistance": "100 ohm"}
        hardware = {"tile": wires, "adc": ADC}
        asked = work(folder, hardware=hardware, runs=1, calibration={"on": "ideal", "images": 50})
        result = asked.run(folder, workers=1).result
        bench, own = asked.bench, asked.plan.points[0].hardware
        assert len(bench.calibration) == 50
        ideal, _ = convert(asked.subject.model, own.replace(rung="ideal"), seed=3, calibration=bench.calibration)
        moved = evaluate(on_rung(ideal, "surrogate"), (bench.images, bench.labels), 1, 3)
        direct, _ = convert(asked.subject.model, own, seed=3, calibration=bench.calibration)
        other = evaluate(direct, (bench.images, bench.labels), 1, 3)
        assert result.base["accuracy"].values.tolist() == list(moved.runs)
        assert moved.counters != other.counters or moved.mean != other.mean  # else the test would say nothing

    def test_failed_run_is_nan(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def diverges(model: Any, data: Any, runs: int, seed: int, *more: Any, **named: Any) -> Any:
            if seed == 4:
                raise ConvergenceError("Newton did not converge", where="layer head")
            return evaluate(model, data, runs, seed, *more, **named)

        monkeypatch.setattr(units_module, "evaluate", diverges)
        found = work(folder, sweep={"adc.bits": [4]}).run(folder, workers=1)
        assert found.failed == 2
        assert np.isnan(found.result.sweeps["adc.bits"]["accuracy"].values).tolist() == [[False, True]]
        assert [failure.label for failure in found.result.failures] == ["base, run 1", "adc.bits = 4, run 1"]
        assert "Newton did not converge at layer head" in found.result.failures[0].cause

    def test_network_without_layers_for_tiles(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match="no layer of the network is on tiles"):
            work(folder, rules={"*": "digital"}).run(folder, workers=1)


class TestJournal:
    def test_goes_on_where_it_was_stopped(self, folder: Path, tmp_path: Path) -> None:
        asked = work(folder, sweep={"adc.bits": [3, 4]})
        whole = asked.run(folder, workers=1).result

        def stop(finished: int, planned: int) -> None:
            if finished == 3:
                raise KeyboardInterrupt

        with Journal.open(tmp_path / "journal") as journal, pytest.raises(KeyboardInterrupt):
            asked.run(folder, workers=1, journal=journal, progress=stop)
        with Journal.open(tmp_path / "journal", resume=True) as journal:
            assert journal.kept().done == 3
            resumed = asked.run(folder, workers=1, journal=journal)
        assert resumed.reused == 3
        assert resumed.result.content_hash == whole.content_hash

    def test_more_values_and_runs_take_what_is_there(self, folder: Path, tmp_path: Path) -> None:
        with Journal.open(tmp_path / "journal") as journal:
            first = work(folder, sweep={"adc.bits": [3]}).run(folder, workers=1, journal=journal)
            more = work(folder, sweep={"adc.bits": [3, 4]}, runs=3).run(folder, workers=1, journal=journal)
        assert (first.units, more.units, more.reused) == (5, 10, 5)

    @pytest.mark.parametrize(
        "changes",
        [{"seed": 5}, {"images": 61}, {"hardware": {"tile": TILE}}, {"calibration": {"images": 20}}, {"time": "1 s"}],
        ids=["seed", "images", "hardware", "calibration", "time"],
    )
    def test_another_experiment_is_refused(self, changes: dict[str, Any], folder: Path, tmp_path: Path) -> None:
        with Journal.open(tmp_path / "journal") as journal:
            work(folder).run(folder, workers=1, journal=journal)
            with pytest.raises(StoreError, match=r"another experiment.*--force"):
                work(folder, **changes).run(folder, workers=1, journal=journal)


class TestSurrogates:
    def test_fit_to_exact_holds_on_other_tiles(self) -> None:
        hardware = Hardware(tile=TileSpec.from_text_dict({**TILE, "cell": SINH}), read_voltage=0.3)
        fitted = fit_to_exact(label_plan(hardware, 1))
        assert fitted.error is not None
        fresh = label_plan(hardware, 2)
        assert fresh.read is not None
        cases = draw(fresh.tile, fresh.read, fresh.conductance_range, np.random.default_rng(2))
        conductances, voltages = torch.as_tensor(cases.conductances), torch.as_tensor(cases.voltages)
        exact = NodalTile(fresh.tile).program(conductances)(voltages)
        error = (fitted.program(conductances)(voltages) - exact).square().mean().sqrt() / exact.square().mean().sqrt()
        assert float(error) < fitted.error.bound < 0.01
        linear = TileSpec.from_text_dict(TILE)
        missed = NodalTile(linear).program(conductances)(voltages) - exact
        assert float(missed.square().mean().sqrt() / exact.square().mean().sqrt()) > 5 * float(error)

    def test_every_swept_tile_has_its_own_and_keeps_it(self, folder: Path, tmp_path: Path) -> None:
        hardware = {"tile": {"rows": 16, "cols": 8, "cell": SINH}}
        changes = {"hardware": hardware, "runs": 1, "sweep": {"tile.cell.nonlinearity": ["3 / V", "6 / V"]}}
        asked = work(folder, **changes)
        assert len(asked.fits) == 2
        first = asked.run(tmp_path, workers=1)
        again = work(folder, **changes).run(tmp_path, workers=1)
        assert (first.surrogates, again.surrogates) == (2, 0)
        assert first.result.content_hash == again.result.content_hash
        told = [each["spec"]["cell"]["nonlinearity"] for each in first.result.config["surrogates"]]
        assert sorted(told) == [3.0, 6.0]
        assert first.result.sweeps["tile.cell.nonlinearity"]["tile.cell.nonlinearity"].units == "1/V"
        assert len(first.result.provenance.parents) == 2


class TestFile:
    @pytest.fixture
    def result(self) -> SimulationResult:
        return SimulationResult.create(
            {"accuracy": Array(np.array([0.5, np.nan]), "1", ("run",))},
            {"adc.bits": {"accuracy": Array(np.ones((3, 2)), "1", ("adc.bits", "run"))}},
            {"simulation": {"runs": 2}},
            seed=3,
            parents=("sha256:aa",),
        )

    def test_round_trip(self, result: SimulationResult, tmp_path: Path) -> None:
        result.save(tmp_path / "result.h5")
        loaded = SimulationResult.load(tmp_path / "result.h5")
        assert loaded == result
        assert loaded.content_hash == result.content_hash

    def test_changed_arrays_are_not_saved(self, result: SimulationResult, tmp_path: Path) -> None:
        result.base["accuracy"].values[0] = 1.0
        with pytest.raises(MdlsError, match="content hash"):
            result.save(tmp_path / "result.h5")
