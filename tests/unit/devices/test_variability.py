"""Effects as configurations, their draws, their order, and what they refuse."""

import numpy as np
import pytest
import torch

from mdls_cosim.config import load_toml
from mdls_cosim.devices import Vteam
from mdls_cosim.devices.variability import (
    CycleToCycle,
    DeviceToDevice,
    Drift,
    Endurance,
    FiniteStates,
    Flicker,
    LogExponent,
    Lognormal,
    Normal,
    PolynomialSpread,
    ProgrammingError,
    Randomness,
    RandomTelegraphNoise,
    ReadNoise,
    Retention,
    Samples,
    Stuck,
    Variability,
)
from mdls_cosim.errors import ConfigError, InputError

SPAN = (1e-6, 100e-6)
TARGETS = np.random.default_rng(1).uniform(*SPAN, (3, 40, 50))
EFFECTS = (
    DeviceToDevice(distribution=Lognormal(sigma=0.1)),
    DeviceToDevice(parameter="off_resistance", distribution=Normal(sigma=0.1)),
    CycleToCycle(distribution=Lognormal(sigma=0.2)),
    FiniteStates(states=16),
    ProgrammingError(relative=0.02, absolute=2e-7, polynomial=(1e-7, 1e-8)),
    Endurance(closing=0.1, onset=1e3, lifetime=1e6),
    Stuck(on=0.01, off=0.02),
    Drift(exponent=0.05, exponent_spread=0.02, start_time=1.0),
    Retention(time_constant=1e8, spread=0.5, activation_energy="1 eV"),
    RandomTelegraphNoise(amplitude=0.1, share=0.3, capture_time=1e-2, emission_time=2e-2),
    ReadNoise(relative=0.01, absolute=1e-8, flicker=Flicker(strength=0.01)),
)
ALL = Variability(effects=EFFECTS)
LATER = {"time": 1e4, "temperature": 350.0}


def chain(variability: Variability, targets, seed: int = 5, **later):
    """Programmed, and read later."""
    written = variability.programmed(targets, SPAN, seed, cycles=1e4)
    return written, variability.at(written.conductances, SPAN, seed, **(later or LATER))


class TestDraws:
    def test_same_seed_same_cells(self):
        for first, second in zip(chain(ALL, TARGETS), chain(ALL, TARGETS), strict=True):
            np.testing.assert_array_equal(first.conductances, second.conductances)
            assert first.counts == second.counts

    def test_another_seed_other_cells(self):
        for first, second in zip(chain(ALL, TARGETS), chain(ALL, TARGETS, seed=6), strict=True):
            assert np.mean(first.conductances == second.conductances) < 0.1  # a few are stuck

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_torch_draws_what_numpy_draws(self, dtype: torch.dtype):
        by_numpy = chain(ALL, TARGETS)
        by_torch = chain(ALL, torch.as_tensor(TARGETS, dtype=dtype))
        for one, other in zip(by_numpy, by_torch, strict=True):
            assert other.conductances.dtype == dtype
            rounded = 1e-12 if dtype == torch.float64 else 1e-5
            # A float32 target may round to the neighbouring state.
            close = np.isclose(other.conductances.numpy(), one.conductances, rtol=rounded)
            assert close.mean() >= (1.0 if dtype == torch.float64 else 0.999)
            assert one.counts.keys() == other.counts.keys()

    @pytest.mark.parametrize("missing", range(len(EFFECTS)))
    def test_an_effect_that_is_dropped_changes_no_draws_of_the_others(self, missing: int):
        """Alone, every effect does to the targets what it does to them in any company."""
        fewer = Variability(effects=EFFECTS[:missing] + EFFECTS[missing + 1 :])
        for place, (effect, randomness) in enumerate(fewer._streams(5)):
            assert (effect, randomness) in list(ALL._streams(5)), place

    def test_the_order_of_the_configuration_does_not_matter(self):
        turned = Variability(effects=EFFECTS[::-1])
        for first, second in zip(chain(ALL, TARGETS), chain(turned, TARGETS), strict=True):
            np.testing.assert_array_equal(first.conductances, second.conductances)

    def test_streams_of_two_names_are_unlike(self):
        draws = [
            Randomness(seed).stream(*names).normal((10000,))
            for seed in (0, 1, -1)
            for names in (("drift",), ("drift", 0), ("drift", 1), ("drift/0",), ("stuck",))
        ]
        found = np.corrcoef(draws) - np.eye(len(draws))
        assert np.abs(found).max() < 5 / np.sqrt(10000)

    @pytest.mark.parametrize("seed", [1.5, True, "1", None])
    def test_a_seed_is_an_integer(self, seed):
        with pytest.raises(InputError, match="seed"):
            ALL.programmed(TARGETS, SPAN, seed)

    def test_what_belongs_to_a_device_outlives_the_programming(self):
        written = [ALL.programmed(TARGETS, SPAN, 5, programming=number).conductances for number in (0, 1)]
        assert np.mean(written[0] == written[1]) < 0.1
        kept = Variability(effects=tuple(effect for effect in EFFECTS if not isinstance(effect, ProgrammingError)))
        written = [kept.programmed(TARGETS, SPAN, 5, programming=number).conductances for number in (0, 1)]
        np.testing.assert_array_equal(*written)

    def test_a_read_redraws_the_read_noise_alone(self):
        noise = Variability(effects=EFFECTS[-1:])
        quiet = Variability(effects=EFFECTS[:-1])
        for variability, changes in ((noise, True), (quiet, False)):
            found = [variability.at(TARGETS, SPAN, 5, read=number, **LATER).conductances for number in (0, 1)]
            assert np.any(found[0] != found[1]) == changes
        again = [noise.at(TARGETS, SPAN, 5, time=time).conductances / TARGETS for time in (1.0, 2.0)]
        assert abs(np.corrcoef(again[0].ravel() - 1, again[1].ravel() - 1)[0, 1]) < 0.05


class TestOrder:
    def test_rounding_comes_before_spread(self):
        found = Variability(effects=(DeviceToDevice(distribution=Lognormal(sigma=0.01)), FiniteStates(states=2)))
        written = found.programmed(TARGETS, SPAN, 5).conductances
        spread = Variability(effects=found.effects[:1]).programmed(np.ones_like(TARGETS), SPAN, 5).conductances
        np.testing.assert_allclose(written / spread, np.where(TARGETS > 50.5e-6, *SPAN[::-1]), rtol=1e-14)

    def test_stuck_cells_are_stuck_at_every_time(self):
        stuck = Variability(effects=(Stuck(on=0.1, off=0.1),))
        where = stuck.programmed(np.full(TARGETS.shape, 50e-6), SPAN, 5).conductances
        assert set(np.unique(where)) == {1e-6, 50e-6, 100e-6}
        everything = ALL.replace(effects=(*(e for e in EFFECTS if not isinstance(e, Stuck)), Stuck(on=0.1, off=0.1)))
        written, later = chain(everything, TARGETS)
        for found in (written, later):
            np.testing.assert_array_equal(found.conductances[where != 50e-6], where[where != 50e-6])
            assert found.counts["stuck_on"] == np.sum(where == 100e-6)
            assert found.counts["stuck_off"] == np.sum(where == 1e-6)

    def test_stuck_cells_at_their_own_conductances(self):
        stuck = Variability(effects=(Stuck(on=0.5, off=0.5, on_conductance="2 mS", off_conductance="0 S"),))
        assert set(np.unique(stuck.programmed(TARGETS, SPAN, 5).conductances)) == {0.0, 2e-3}

    def test_drift_comes_before_retention(self):
        both = Variability(effects=(Retention(time_constant=1e3, level=30e-6), Drift(exponent=0.1, start_time=1.0))).at(
            TARGETS, SPAN, 5, time=2e3
        )
        drifted = TARGETS * 2e3**-0.1
        np.testing.assert_allclose(both.conductances, 30e-6 + (drifted - 30e-6) * np.exp(-2), rtol=1e-13)

    def test_nothing_is_below_zero_and_every_clip_is_counted(self):
        wild = Variability(effects=(ProgrammingError(absolute=50e-6), ReadNoise(absolute=50e-6)))
        written, later = chain(wild, TARGETS)
        for found in (written, later):
            assert np.all(found.conductances >= 0)
            assert found.counts == {"clipped": int(np.sum(found.conductances == 0))}
            assert found.counts["clipped"] > 100

    def test_nothing_happens_without_effects(self):
        for found in chain(Variability(), TARGETS):
            np.testing.assert_array_equal(found.conductances, TARGETS)
            assert found.counts == {}
        np.testing.assert_array_equal(Variability().factors((2, 3), 1), np.ones((2, 3)))


class TestFiniteStates:
    def test_uniform_states_are_the_nearest(self):
        written = Variability(effects=(FiniteStates(states=7),)).programmed(TARGETS, SPAN, 1).conductances
        states = np.linspace(*SPAN, 7)
        nearest = states[np.abs(TARGETS[..., None] - states).argmin(-1)]
        np.testing.assert_allclose(written, nearest, rtol=1e-14)

    @pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])
    def test_measured_levels_are_the_nearest(self, as_array):
        levels = (2e-6, 3e-6, 20e-6, 21e-6, 90e-6)
        found = Variability(effects=(FiniteStates(levels=levels),)).programmed(as_array(TARGETS), SPAN, 1)
        nearest = np.array(levels)[np.abs(TARGETS[..., None] - np.array(levels)).argmin(-1)]
        np.testing.assert_array_equal(np.asarray(found.conductances), nearest)
        assert found.counts == {"outside": int(np.sum((TARGETS < 2e-6) | (TARGETS > 90e-6)))}

    def test_a_level_stays(self):
        variability = Variability(effects=(FiniteStates(states=5),))
        once = variability.programmed(TARGETS, SPAN, 1).conductances
        np.testing.assert_array_equal(variability.programmed(once, SPAN, 1).conductances, once)

    def test_targets_outside_of_the_span_are_counted(self):
        found = Variability(effects=(FiniteStates(states=3),)).programmed(np.array([0.0, 5e-6, 2e-4]), SPAN, 1)
        np.testing.assert_allclose(found.conductances, [1e-6, 1e-6, 1e-4])
        assert found.counts == {"outside": 2}

    @pytest.mark.parametrize(
        "given", [{}, {"states": 4, "levels": (1e-6, 2e-6)}, {"states": 1}, {"levels": (2e-6, 1e-6)}], ids=str
    )
    def test_one_description_is_needed(self, given):
        with pytest.raises(ConfigError):
            FiniteStates(**given)


class TestEndurance:
    def test_the_window_closes_towards_its_centre(self):
        worn = Variability(effects=(Endurance(closing=0.2, onset=10.0, centre=0.25),))
        targets = np.array([1e-6, 20e-6, 100e-6])
        for cycles in (0, 90, 9990, 1e9):
            lost = min(0.2 * np.log10(1 + cycles / 10), 1)
            found = worn.programmed(targets, SPAN, 1, cycles=cycles)
            low, high = 1e-6 + lost * 0.25 * 99e-6, 100e-6 - lost * 0.75 * 99e-6
            np.testing.assert_allclose(found.conductances, np.clip(targets, low, high), rtol=1e-12)
            assert found.counts.get("worn", 0) == np.sum(~np.isclose(found.conductances, targets, rtol=1e-9))

    def test_each_cell_may_have_its_own_cycles(self):
        worn = Variability(effects=(Endurance(closing=0.5, onset=1.0, centre=0.0),))
        found = worn.programmed(np.full((1, 3), 100e-6), SPAN, 1, cycles=np.array([0, 9, 99])).conductances
        np.testing.assert_allclose(found, [[100e-6, 50.5e-6, 1e-6]], rtol=1e-12)

    def test_a_fresh_window_holds_nothing_back(self):
        outside = np.array([0.5e-6, 150e-6])
        fresh = Variability(effects=(Endurance(closing=0.5),)).programmed(outside, SPAN, 1)
        np.testing.assert_array_equal(fresh.conductances, outside)

    def test_a_failed_cell_stays_failed(self):
        mortal = Variability(effects=(Endurance(lifetime=1e4, fails="off"),))
        failed = [mortal.programmed(TARGETS, SPAN, 1, cycles=cycles).conductances == 1e-6 for cycles in (5e3, 1e4, 3e4)]
        assert 0 < failed[0].sum() < failed[1].sum() < failed[2].sum()
        assert np.all(failed[1][failed[0]])
        assert np.all(failed[2][failed[1]])


class TestParameters:
    def test_a_population_spreads_as_told(self):
        device = Vteam()
        own = ALL.parameters(device, (2000,), 5)
        assert own.keys() == {"off_resistance"}
        population = device.varied(own)
        for place in (0, 7, 1999):
            one = device.replace(off_resistance=own["off_resistance"][place])
            assert population.conductance(np.asarray(0.4))[place] == one.conductance(np.asarray(0.4))

    def test_signs_survive(self):
        spread = Variability(
            effects=tuple(
                DeviceToDevice(parameter=name, distribution=Normal(sigma=0.24))
                for name in ("on_voltage", "off_voltage")
            )
        )
        own = spread.parameters(Vteam(), (100000,), 5)
        assert np.all(own["on_voltage"] < 0)
        assert np.all(own["off_voltage"] > 0)
        assert abs(np.corrcoef(own["on_voltage"], own["off_voltage"])[0, 1]) < 0.02

    def test_they_live_where_they_are_asked_to(self):
        like = torch.zeros(1, dtype=torch.float32)
        own = ALL.parameters(Vteam(), (20,), 5, like=like)["off_resistance"]
        assert own.dtype == torch.float32
        np.testing.assert_allclose(own.numpy(), ALL.parameters(Vteam(), (20,), 5)["off_resistance"], rtol=1e-6)
        assert ALL.factors((20,), 5, like=like).dtype == torch.float32

    def test_a_spread_of_parameters_leaves_conductances_alone(self):
        only = Variability(effects=EFFECTS[1:3])
        for found in chain(only, TARGETS):
            np.testing.assert_array_equal(found.conductances, TARGETS)

    @pytest.mark.parametrize("name", ["resistance", "model", "conduction"])
    def test_what_the_device_has_not_is_refused(self, name: str):
        unknown = Variability(effects=(DeviceToDevice(parameter=name, distribution=Normal(sigma=0.1)),))
        with pytest.raises(InputError, match="parameter"):
            unknown.parameters(Vteam(), (2,), 1)

    def test_speeds_and_steps_are_two_things(self):
        steps = Variability(effects=(CycleToCycle(quantity="step", distribution=Normal(sigma=0.1)),))
        np.testing.assert_array_equal(steps.factors((3,), 1), np.ones(3))
        assert np.all(steps.factors((3,), 1, quantity="step") != 1)


class TestGradients:
    def test_they_pass_through_spread_and_time(self):
        smooth = Variability(
            effects=tuple(effect for effect in EFFECTS if not isinstance(effect, FiniteStates | Endurance))
        )

        def final(share: torch.Tensor) -> torch.Tensor:
            return chain(smooth, 1e-4 * share, time=10.0)[1].conductances * 1e4

        shares = torch.linspace(0.1, 0.9, 30, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(final, (shares,))

    def test_they_are_finite_for_an_open_cell(self):
        device = Variability(
            effects=(
                *EFFECTS[:1],
                ProgrammingError(relative=0.1),
                Drift(exponent=LogExponent(slope=-0.1, offset=0.0, lowest=0.0, highest=0.1, scale=1e-6)),
                Retention(time_constant=1.0, stretching=0.5),
                ReadNoise(relative=0.1, flicker=Flicker(strength=0.01, exponent=-0.65)),
            )
        )
        for later in ({"time": 0.0}, {"time": 1e5}):
            targets = torch.zeros(10, dtype=torch.float64, requires_grad=True)
            chain(device, targets, **later)[1].conductances.sum().backward()
            assert targets.grad is not None
            assert torch.all(torch.isfinite(targets.grad))


class TestRefusals:
    @pytest.mark.parametrize(
        "targets",
        [np.array([-1e-9]), np.array([np.nan]), np.array([np.inf]), np.array([1]), torch.tensor([1])],
        ids=str,
    )
    def test_impossible_conductances(self, targets):
        with pytest.raises(InputError, match="targets"):
            ALL.programmed(targets, SPAN, 1)
        with pytest.raises(InputError, match="conductances"):
            ALL.at(targets, SPAN, 1)

    @pytest.mark.parametrize("span", [(-1e-6, 1e-6), (2e-6, 1e-6), (0.0, np.inf), (0.0, np.nan)])
    def test_impossible_spans(self, span):
        with pytest.raises(InputError, match="span"):
            ALL.programmed(TARGETS, span, 1)

    @pytest.mark.parametrize("later", [{"time": -1.0}, {"time": np.nan}, {"temperature": 0.0}])
    def test_impossible_times_and_temperatures(self, later):
        with pytest.raises(InputError, match=next(iter(later))):
            ALL.at(TARGETS, SPAN, 1, **later)

    def test_impossible_cycles(self):
        with pytest.raises(InputError, match="cycles"):
            ALL.programmed(TARGETS, SPAN, 1, cycles=-1)

    @pytest.mark.parametrize(
        ("kind", "given"),
        [
            (Normal, {"sigma": 0.3}),
            (Normal, {"sigma": -0.1}),
            (Samples, {"values": ()}),
            (Samples, {"values": (1.0, 0.0)}),
            (Stuck, {"on": 0.6, "off": 0.6}),
            (ProgrammingError, {"minimum": 2e-6, "maximum": 1e-6}),
            (LogExponent, {"slope": 1, "offset": 0, "lowest": 1, "highest": 0, "scale": 1e-6}),
            (DeviceToDevice, {"parameter": "on_resistance", "distribution": PolynomialSpread(coefficients=(1e-6,))}),
            (CycleToCycle, {"distribution": {"kind": "polynomial", "coefficients": [1e-6]}}),
            (RandomTelegraphNoise, {"amplitude": 1.5, "capture_time": 1.0, "emission_time": 1.0}),
            (Variability, {"effects": (Stuck(on=0.1), Stuck(off=0.1))}),
            (Variability, {"effects": (EFFECTS[0], EFFECTS[0])}),
            (Variability, {"effects": ({"effect": "magic"},)}),
        ],
        ids=str,
    )
    def test_impossible_configurations(self, kind, given):
        with pytest.raises(ConfigError):
            kind(**given)

    @pytest.mark.parametrize("values", [[], [1.0, -1.0], [1.0, np.nan], [0.0, 1.0]], ids=str)
    def test_measured_samples_of_no_spread(self, values):
        with pytest.raises(InputError):
            Samples.measured(values)

    def test_sets_without_a_table(self):
        with pytest.raises(ConfigError, match="variability"):
            Variability.from_parameters("vteam_kvatinsky_b")


def test_samples_are_relative_to_their_median():
    assert Samples.measured([-2e3, -1e3, -4e3]).values == (1.0, 0.5, 2.0)


def test_it_is_a_value():
    assert Variability(**ALL.as_dict()) == ALL
    assert hash(Variability(**ALL.as_dict())) == hash(ALL)


def test_it_reads_from_toml(tmp_path):
    (tmp_path / "spread.toml").write_text(
        """
        [[effects]]
        effect = "stuck"
        on = 0.01
        [[effects]]
        effect = "drift"
        exponent = { slope = -0.01, offset = 0.02, lowest = 0.0, highest = 0.1, scale = "25 uS" }
        exponent_spread = 0.01
        start_time = "1 min"
        activation_energy = "1.5 eV"
        [[effects]]
        effect = "device_to_device"
        parameter = "on_resistance"
        distribution = { kind = "samples", values = [0.9, 1.0, 1.2] }
        """
    )
    stuck, drift, spread = load_toml(tmp_path / "spread.toml", Variability).effects
    assert stuck == Stuck(on=0.01)
    assert isinstance(drift, Drift)
    assert drift.start_time == 60.0
    assert drift.exponent == LogExponent(slope=-0.01, offset=0.02, lowest=0.0, highest=0.1, scale=25e-6)
    assert drift.activation_energy == pytest.approx(1.5 * 1.602176634e-19)
    assert spread == DeviceToDevice(parameter="on_resistance", distribution=Samples(values=(0.9, 1.0, 1.2)))
    (tmp_path / "bare.toml").write_text('[[effects]]\neffect = "drift"\nexponent = 0.1\nstart_time = 20\n')
    with pytest.raises(ConfigError, match="unit"):
        load_toml(tmp_path / "bare.toml", Variability)
