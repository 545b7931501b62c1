"""Every effect of the cells, in a network: it changes a number, or is refused by its name."""

from typing import get_args

import numpy as np
import pytest
import torch

from mdls_cosim.analog import AnalogLinear, Hardware, Moment
from mdls_cosim.devices import (
    DataDriven,
    Device,
    DynamicDevice,
    JartVcm,
    LinearIonDrift,
    MeasuredCurves,
    Memristor,
    MetastableSwitch,
    Ohmic,
    PassiveTio2,
    PhaseChange,
    PolynomialRead,
    Sinh,
    StanfordPku,
    Vteam,
    Yakopcic,
)
from mdls_cosim.devices.variability import (
    AnyEffect,
    CycleToCycle,
    DeviceToDevice,
    Drift,
    Endurance,
    FiniteStates,
    Lognormal,
    OwnRetention,
    ProgrammingError,
    RandomTelegraphNoise,
    ReadDisturb,
    ReadNoise,
    Retention,
    Stuck,
    Variability,
)
from mdls_cosim.errors import ConfigError, NotAvailable
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.tiles import SelectorCell, StateDeclaration, SubcircuitCell, TileSpec

WIDE = Lognormal(sigma=0.5)
EFFECTS = (
    DeviceToDevice(distribution=WIDE),
    CycleToCycle(distribution=WIDE),
    CycleToCycle(quantity="step", distribution=WIDE),
    FiniteStates(states=3),
    ProgrammingError(relative=0.1),
    Endurance(closing=0.5, onset=1.0),
    Stuck(on=0.2, off=0.2),
    Drift(exponent=0.1),
    Retention(time_constant=1e3),
    OwnRetention(),
    ReadDisturb(reads=1e5, read_time=1e-6),
    RandomTelegraphNoise(amplitude=0.2, capture_time=1.0, emission_time=1.0),
    ReadNoise(relative=0.1),
)
pytestmark = pytest.mark.filterwarnings("ignore:.*beyond the measurements:mdls_cosim.errors.DomainWarning")
SWITCH = "knowm_sdc_m1_5k"
MOVE_AT_REST = {"MetastableSwitch"}


def curves() -> MeasuredCurves:
    voltages = np.linspace(-0.5, 0.5, 11)
    levels = (1e-6, 1e-5, 1e-4)
    currents = tuple(tuple((level * np.sinh(2 * voltages) / 2).tolist()) for level in levels)
    return MeasuredCurves(conductances=levels, voltages=tuple(voltages.tolist()), currents=currents)


DEVICES: dict[str, tuple[Device, tuple[float, float]]] = {
    type(device).__name__: (device, span)
    for device, span in (
        (Ohmic(activation_energy=1.6e-20), (1e-6, 1e-4)),
        (Sinh(nonlinearity=3.0), (1e-6, 1e-4)),
        (PassiveTio2(), (1e-5, 5e-5)),
        (PolynomialRead(), (5e-5, 2e-4)),
        (PhaseChange(), (1e-6, 2.5e-5)),
        (LinearIonDrift(), (1e-4, 8e-3)),
        (Vteam(), (1e-3, 1e-2)),
        (Yakopcic(), (0.0, 0.0)),
        (MetastableSwitch(parameters=SWITCH), (2e-5, 4e-4)),
        (DataDriven(), (5e-5, 5e-4)),
        (StanfordPku(), (0.0, 0.0)),
        (JartVcm(), (0.0, 0.0)),
        (curves(), (1e-6, 1e-4)),
    )
}


def hardware(device: Device, rung: str, variability: Variability, **more) -> Hardware:
    low, high = device.conductance_range()
    if not np.isfinite(high) or isinstance(device, PhaseChange | MeasuredCurves):
        low, high = DEVICES[type(device).__name__][1]
    low, high = low + 0.1 * (high - low), high - 0.1 * (high - low)
    spec = TileSpec(rows=3, cols=4, cell=device, row_line_resistance=1.0, **more)
    given = {"tile": spec, "rung": rung, "conductance_range": (low, high), "cycles": 1e3}
    return Hardware(**given, variability=variability)


def outputs(given: Hardware, time: float = 1e4) -> torch.Tensor:
    """Of a small layer right after the programming, at a later time, and warm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layer = AnalogLinear(3, 2, bias=False, hardware=given, seed=4, dtype=torch.float64)
    inputs = torch.tensor([[1.0, -0.6, 0.3]], dtype=torch.float64)
    found = [layer(inputs)]
    layer.read_at(Moment(time=time))
    found.append(layer(inputs))
    if given.rung != "ideal" and not isinstance(given.spec.device, MeasuredCurves):
        layer.read_at(Moment(temperature=330.0))
        found.append(layer(inputs))
    return torch.cat(found)


def spread(parameter: str, sigma: float = 0.3) -> DeviceToDevice:
    return DeviceToDevice(parameter=parameter, distribution=Lognormal(sigma=sigma))


def numbers(device: Device) -> list[str]:
    """Parameters that a spread may name."""
    own = {name: getattr(device, name) for name in type(device).model_fields}
    return [name for name, value in own.items() if isinstance(value, float)]


def acts(device: Device, rung: str, effect, plain: torch.Tensor, named: str) -> bool:
    """Whether an effect changed a number; False: it was refused by its name, in one short sentence."""
    variability = Variability(effects=(effect,))
    try:
        given = hardware(device, rung, variability)
    except ConfigError:
        with pytest.raises(ConfigError, match=named) as refusal:
            hardware(device, rung, variability)
        assert len(str(refusal.value)) <= 300
        return False
    assert not torch.equal(outputs(given), plain), named
    return True


def test_every_kind_of_effect_is_here():
    kinds = {kind.__name__ for kind in get_args(get_args(AnyEffect)[0])}
    assert kinds == {type(effect).__name__ for effect in EFFECTS}
    assert DEVICES.keys() == {kind.__name__ for kind in get_args(Memristor)} | {"MeasuredCurves"}


# Exact tiles of the JART model take seconds a read.
BOTH = ("ideal", "nodal")


@pytest.mark.parametrize(
    ("kind", "rung"), [(kind, rung) for kind in DEVICES for rung in (BOTH if kind != "JartVcm" else BOTH[:1])]
)
def test_every_effect_acts_or_is_refused(kind: str, rung: str):
    device = DEVICES[kind][0]
    plain = outputs(hardware(device, rung, Variability()))
    # At 0.2 V the Stanford model moves by less than rounding.
    effects = [
        effect.replace(voltage=0.9) if kind == "StanfordPku" and isinstance(effect, ReadDisturb) else effect
        for effect in EFFECTS
    ]
    refused = {effect.stream_name for effect in effects if not acts(device, rung, effect, plain, effect.effect)}
    static = not isinstance(device, DynamicDevice)
    expected = {"cycle_to_cycle/speed", "cycle_to_cycle/step"}
    if static or kind not in MOVE_AT_REST:
        expected |= {"own_retention"}
    if static or kind in ("Vteam", "Yakopcic"):  # below its thresholds nothing moves
        expected |= {"read_disturb"}
    assert refused == expected


SPREADS: dict[str, tuple[str, str]] = {
    # On ideal tiles, and what exact ones add: the shape of the curve, and temperature.
    "Ohmic": ("", "activation_energy"),
    "Sinh": ("", "nonlinearity"),
    "PassiveTio2": (
        "highest_conductance linear_offset linear_slope linear_warming",
        "cubic_slope cubic_curvature cubic_cooling",
    ),
    "PolynomialRead": ("highest_conductance lowest_conductance", ""),
    "PhaseChange": ("highest_conductance", ""),
    "LinearIonDrift": ("on_resistance off_resistance", ""),
    "Vteam": ("on_resistance off_resistance", ""),
    "Yakopcic": ("positive_amplitude nonlinearity", "negative_amplitude"),
    "MetastableSwitch": (
        "on_resistance off_resistance memory_share forward_current reverse_current forward_slope reverse_slope",
        "",
    ),
    "DataDriven": (
        "on_resistance off_resistance positive_amplitude positive_nonlinearity",
        "negative_amplitude negative_nonlinearity",
    ),
    "StanfordPku": ("current_scale gap_scale voltage_scale least_gap largest_gap", ""),
    "MeasuredCurves": ("", ""),
}
"""Which parameters act without any motion of the state."""


@pytest.mark.parametrize(("kind", "rung"), [*((kind, rung) for kind in SPREADS for rung in BOTH), ("JartVcm", "ideal")])
def test_every_spread_of_a_parameter_acts_or_is_refused(kind: str, rung: str):
    device = DEVICES[kind][0]
    plain = outputs(hardware(device, rung, Variability()))
    acting = {
        name
        for name in numbers(device)
        if acts(device, rung, spread(name, 0.3 if name.startswith(("highest", "lowest")) else 0.05), plain, name)
    }
    if kind in SPREADS:
        at_all, by_shape = SPREADS[kind]
        assert acting == set(at_all.split()) | set(by_shape.split() if rung == "nodal" else ())
    assert "migration_energy" not in acting


LINEAR = [kind for kind, (device, _) in DEVICES.items() if device.linear]


@pytest.mark.parametrize("kind", LINEAR)
def test_of_ohmic_devices_they_act_on_surrogates(kind: str):
    device = DEVICES[kind][0]
    plain = outputs(hardware(device, "surrogate", Variability()))
    for effect in (
        DeviceToDevice(distribution=WIDE),
        ProgrammingError(relative=0.1),
        Stuck(on=0.2),
        Drift(exponent=0.1),
    ):
        assert acts(device, "surrogate", effect, plain, effect.effect)
    for name in " ".join(SPREADS[kind]).split():
        assert acts(device, "surrogate", spread(name), plain, name)


@pytest.mark.parametrize("kind", [kind for kind in SPREADS if kind not in LINEAR])
def test_ngspice_has_one_device_for_all_cells(kind: str):
    for name in " ".join(SPREADS[kind]).split():
        with pytest.raises(ConfigError, match=f"{name}.*take rung nodal"):
            hardware(DEVICES[kind][0], "spice", Variability(effects=(spread(name),)))


class TestMotion:
    """What spreads the motion of the state acts with an effect of motion, and is refused without."""

    @pytest.mark.parametrize("motion", [OwnRetention(), ReadDisturb(reads=1e4, read_time=1e-8)], ids=lambda m: m.effect)
    @pytest.mark.parametrize(
        "more",
        [
            spread("time_constant"),
            spread("slope_voltage"),
            spread("on_voltage"),
            CycleToCycle(distribution=Lognormal(sigma=0.3)),
        ],
        ids=lambda each: each.stream_name,
    )
    def test_it_acts_on_the_motion(self, motion, more):
        device = DEVICES["MetastableSwitch"][0]
        alone, both = (
            outputs(hardware(device, "ideal", Variability(effects=effects)), time=1e-3)[-1]
            for effects in ((motion,), (motion, more))
        )
        assert not torch.equal(alone, both)

    def test_a_step_of_pulses_never_acts(self):
        step = CycleToCycle(quantity="step", distribution=WIDE)
        with pytest.raises(ConfigError, match=r"cycle_to_cycle of step.*pulses"):
            hardware(DEVICES["MetastableSwitch"][0], "ideal", Variability(effects=(OwnRetention(), step)))

    def test_what_the_device_has_not_is_refused_with_what_it_has(self):
        with pytest.raises(ConfigError, match=r"device_to_device of resistance.*on_resistance"):
            hardware(Vteam(), "ideal", Variability(effects=(spread("resistance"),)))

    def test_subcircuits_have_no_parameters_of_ours(self):
        text = ".subckt mine a b g=1u\nR1 a b r={1/g}\n.ends\n"
        cell = SubcircuitCell(
            subcircuit="mine",
            pins=("row", "column"),
            state=StateDeclaration(parameter="g", quantity="conductance"),
            text=text,
        )
        for effect in (OwnRetention(), spread("on_resistance")):
            with pytest.raises(ConfigError, match=f"{effect.effect}.*subcircuit"):
                Hardware(
                    tile=TileSpec(rows=2, cols=2, cell=cell), rung="spice", variability=Variability(effects=(effect,))
                )


class TestOpenLoop:
    """The state is chosen for the nominal device; the conductance is that of the actual one."""

    def test_a_spread_resistance(self):
        device = Vteam()
        given = hardware(device, "ideal", Variability(effects=(spread("on_resistance", 2.0),)))
        layer = AnalogLinear(3, 2, bias=False, hardware=given, seed=4, dtype=torch.float64)
        plain = AnalogLinear(3, 2, bias=False, hardware=hardware(device, "ideal", Variability()), dtype=torch.float64)
        with torch.no_grad():
            plain.weight.copy_(layer.weight)
        plain.program(4)
        own = given.variability.parameters(device, tuple(layer.conductances.shape), 4)["on_resistance"]
        for place in np.ndindex(*layer.conductances.shape):
            state = device.state_for(float(plain.conductances[place]))
            expected = device.replace(on_resistance=min(float(own[place]), 0.999 * device.off_resistance))
            if own[place] < 0.999 * device.off_resistance:
                assert float(layer.conductances[place]) == pytest.approx(float(expected.conductance(state)), rel=1e-9)

    @pytest.mark.parametrize("cell", ["bare", "selector"])
    def test_curves_of_their_own_in_a_tile(self, cell: str):
        """Each cell of a tile without wires passes the current of its own device."""
        device = Sinh(nonlinearity=6.0)
        whole = SelectorCell(device=device) if cell == "selector" else device
        spec = TileSpec(rows=3, cols=4, cell=whole)
        own = np.exp(0.5 * np.random.default_rng(1).standard_normal((3, 4))) * 6.0
        conductances = torch.linspace(1e-5, 1e-4, 12, dtype=torch.float64).reshape(3, 4)
        voltages = torch.tensor([[0.2, -0.1, 0.15], [0.05, 0.2, -0.2]], dtype=torch.float64)
        devices = device.varied({"nonlinearity": torch.as_tensor(own)})
        found = NodalTile(spec).program(conductances, devices)(voltages)
        expected = torch.zeros(2, 4, dtype=torch.float64)
        for row, col in np.ndindex(3, 4):
            one = device.replace(nonlinearity=float(own[row, col]))
            alone = TileSpec(rows=1, cols=1, cell=SelectorCell(device=one) if cell == "selector" else one)
            expected[:, col] += NodalTile(alone).program(conductances[row, col].view(1, 1))(voltages[:, row, None])[
                :, 0
            ]
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-16)

    def test_other_rungs_know_one_device(self):
        spread_shape = Variability(effects=(spread("nonlinearity"),))
        with pytest.raises(ConfigError, match=r"nonlinearity.*nodal"):
            hardware(Sinh(nonlinearity=3.0), "spice", spread_shape)
        spec = TileSpec(rows=3, cols=4, cell=Sinh(nonlinearity=3.0))
        with pytest.raises(NotAvailable, match="differ from cell to cell"):
            SpiceTile(spec).program(torch.full((3, 4), 1e-5), Sinh(nonlinearity=3.0))


@pytest.mark.parametrize(
    "effect",
    [
        ProgrammingError(),
        Stuck(),
        Drift(exponent=0.0),
        Endurance(),
        ReadNoise(),
        ReadDisturb(reads=0, read_time=1e-6),
    ],
    ids=lambda each: each.effect,
)
def test_values_that_change_nothing_are_named(effect):
    given = hardware(DEVICES["LinearIonDrift"][0], "ideal", Variability(effects=(effect,)))
    named = next(each for each in given.left_out if not each.startswith("cycles"))
    assert named.startswith(effect.effect)
    assert named.endswith("0)")


def test_read_noise_that_is_off_is_named():
    noise = Variability(effects=(ReadNoise(relative=0.1),))
    given = hardware(Vteam(), "ideal", noise).replace(cycles=0)
    assert given.left_out == ()
    assert given.replace(read_noise="off").left_out == ("read_noise (Hardware.read_noise is off)",)


def test_cycles_without_endurance_are_named():
    (named,) = hardware(Vteam(), "ideal", Variability(effects=(Stuck(on=0.1),))).left_out
    assert named.startswith("cycles (no effect endurance")
    assert hardware(Vteam(), "ideal", Variability(effects=(Endurance(closing=0.1),))).left_out == ()
