"""The one object that says what a layer runs on."""

import pytest

from mdls_cosim.analog import Adc, Dac, Hardware, IdealAdc, IdealDac
from mdls_cosim.devices import Sinh, Vteam
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import ConfigError
from mdls_cosim.fidelity import IdealTile, NodalTile, SpiceTile, TileModel
from mdls_cosim.surrogates import Domain, LinearSurrogate
from mdls_cosim.tiles import TileSpec

OHMIC = TileSpec(rows=4, cols=3, row_line_resistance=1.0)
SINH = OHMIC.replace(cell=Sinh())


@pytest.mark.parametrize(
    ("rung", "kind"), [("ideal", IdealTile), ("nodal", NodalTile), ("spice", SpiceTile), ("surrogate", LinearSurrogate)]
)
def test_every_rung_has_its_tile_model(rung, kind):
    model = Hardware(tile=OHMIC, rung=rung).tile_model()
    assert type(model) is kind
    assert model.spec == OHMIC


def test_a_surrogate_is_its_own_rung_and_lends_its_spec_to_the_others():
    surrogate = LinearSurrogate.exact(OHMIC)
    hardware = Hardware(tile=surrogate)
    assert hardware.tile_model() is surrogate
    assert isinstance(hardware.tile, TileModel)
    nodal = hardware.replace(rung="nodal").tile_model()
    assert isinstance(nodal, NodalTile)
    assert nodal.spec == OHMIC


def test_non_ohmic_cells_need_a_fitted_surrogate():
    hardware = Hardware(tile=SINH)
    with pytest.raises(ConfigError, match=r"Sinh cells need a fitted one.*characterize"):
        hardware.tile_model()
    assert isinstance(hardware.replace(rung="nodal").tile_model(), NodalTile)


def test_defaults():
    hardware = Hardware(tile=OHMIC)
    assert hardware.rung == "surrogate"
    assert hardware.states is None
    assert hardware.dac == IdealDac()
    assert hardware.adc == IdealAdc()
    assert hardware.subtraction == "analog"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"states": 1}, "states"),
        ({"read_voltage": 0.0}, "read_voltage"),
        ({"conductance_range": (1e-4, 1e-6)}, "conductance"),
        ({"conductance_range": (-1e-6, 1e-6)}, "conductance_range"),
        ({"subtraction": "none"}, "subtraction"),
        ({"rung": "perfect"}, "rung"),
        ({"stats": 6}, "states"),
    ],
)
def test_impossible_values_are_refused_by_name(wrong, field):
    with pytest.raises(ConfigError, match=field):
        Hardware(tile=OHMIC, **wrong)


def test_describes_itself_in_plain_values():
    spread = Variability(effects=(ProgrammingError(),))
    hardware = Hardware(tile=OHMIC, states=6, dac=Dac(bits=6), adc=Adc(bits=6), variability=spread)
    described = hardware.as_dict()
    assert described["tile"]["rows"] == 4
    assert described["dac"] == {"kind": "uniform", "bits": 6, "full_scale": None, "phases": "bipolar"}
    assert Hardware(tile=LinearSurrogate.exact(OHMIC)).as_dict()["tile"]["spec"]["rows"] == 4


def test_text_needs_units():
    text = {
        "tile": {"rows": 4, "cols": 3, "cell": {"model": "ohmic"}},
        "read_voltage": "200 mV",
        "dac": {"kind": "uniform", "bits": 6},
    }
    hardware = Hardware.from_text_dict({**text, "conductance_range": ["1 uS", "100 uS"]}, where="a test")
    assert hardware.read_voltage == pytest.approx(0.2, rel=1e-12)
    assert hardware.conductance_range == pytest.approx((1e-6, 100e-6), rel=1e-12)
    with pytest.raises(ConfigError, match="read_voltage"):
        Hardware.from_text_dict({**text, "read_voltage": 0.2}, where="a test")


def test_the_conductance_range_follows_from_the_device():
    assert Hardware(tile=SINH).conductance_range == (1e-6, 100e-6)  # no range of its own
    hardware = Hardware(tile=OHMIC.replace(cell=Vteam(on_resistance=2e3, off_resistance=50e3)), rung="nodal")
    assert hardware.conductance_range == pytest.approx((20e-6, 500e-6), rel=1e-12)
    other = OHMIC.replace(cell=Vteam(on_resistance=4e3, off_resistance=50e3))
    assert hardware.replace(tile=other).conductance_range == pytest.approx((20e-6, 250e-6), rel=1e-12)
    given = hardware.replace(conductance_range=(30e-6, 200e-6))
    assert given.replace(tile=other).conductance_range == (30e-6, 200e-6)
    assert given.replace(conductance_range=None) == hardware


def test_the_conductance_range_follows_from_the_domain_of_a_surrogate():
    surrogate = LinearSurrogate(OHMIC, domain=Domain(conductances=(5e-6, 20e-6)))
    assert Hardware(tile=surrogate).conductance_range == (5e-6, 20e-6)
    # A fit to measured tiles may have seen more than the fitted device reaches.
    spec = OHMIC.replace(cell=Vteam(on_resistance=2e3, off_resistance=50e3))
    wider = LinearSurrogate(spec, domain=Domain(conductances=(1e-6, 200e-6)))
    assert Hardware(tile=wider).conductance_range == pytest.approx((20e-6, 200e-6), rel=1e-12)


@pytest.mark.parametrize("rung", ["ideal", "nodal", "spice", "surrogate"])
@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"conductance_range": (1e-6, 100e-6)}, "conductance_range"), ({"unmapped_conductance": 1e-6}, "unmapped")],
)
def test_conductances_that_the_device_cannot_hold_are_refused_at_construction(rung, wrong, field):
    tile = OHMIC.replace(cell=Vteam(on_resistance=2e3, off_resistance=50e3))
    with pytest.raises(ConfigError, match=rf"does not reach so far.*{field}.*20 µS to 500 µS") as found:
        Hardware(tile=tile, rung=rung, **wrong)
    assert len(str(found.value)) < 300
    assert "\n" not in str(found.value)
