"""Everything besides a passive cell that the exact solver takes, against ngspice's own circuit of it."""

from __future__ import annotations

import pytest
import torch

from mdls_cosim.devices import ExponentialSelector, MetastableSwitch, Nmos, Ohmic, PolynomialRead, Sinh
from mdls_cosim.errors import NotAvailable
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.tiles import SelectorCell, TileSpec, TransimpedanceAmplifier, TransistorCell

pytestmark = pytest.mark.ngspice

ELECTRONVOLT = 1.602176634e-19
AMPLIFIER = TransimpedanceAmplifier(feedback_resistance=5e3, gain=200.0)
SELECTOR = ExponentialSelector(saturation_current=1e-8, slope_voltage=0.15)
CIRCUITS = {
    "ohmic, amplifier": {"amplifier": AMPLIFIER},
    "ohmic, hot": {
        "cell": Ohmic(activation_energy=0.1 * ELECTRONVOLT),
        "temperature": 380.0,
        "wire_temperature_coefficient": 0.004,
    },
    "ohmic, both ends, amplifier": {"drive": "double", "amplifier": AMPLIFIER},
    "sinh, both ends": {"cell": Sinh(nonlinearity=5.0), "drive": "double"},
    "sinh, both ends without drivers": {"cell": Sinh(nonlinearity=5.0), "drive": "double", "driver_resistance": 0.0},
    "sinh, amplifier": {"cell": Sinh(nonlinearity=5.0), "amplifier": AMPLIFIER},
    "sinh, hot": {
        "cell": Sinh(nonlinearity=5.0, activation_energy=0.05 * ELECTRONVOLT),
        "temperature": 350.0,
        "wire_temperature_coefficient": 0.004,
    },
    "metastable switch with diodes, both ends": {
        "cell": MetastableSwitch(on_resistance=5e3, off_resistance=1e6, forward_current=4e-6, reverse_current=9e-6),
        "drive": "double",
    },
    "selector": {"cell": SelectorCell(device=Ohmic(), selector=SELECTOR)},
    "selector, polynomial": {"cell": SelectorCell(device=PolynomialRead(), selector=SELECTOR)},
    "selector, hot, both ends": {
        "cell": SelectorCell(device=Sinh(activation_energy=0.05 * ELECTRONVOLT), selector=SELECTOR),
        "temperature": 330.0,
        "drive": "double",
    },
}


def tile(**changes) -> TileSpec:
    return TileSpec(
        **{
            "rows": 7, "cols": 5, "row_line_resistance": 20.0, "column_line_resistance": 30.0,
            "driver_resistance": 50.0, "sense_resistance": 40.0, **changes,
        }
    )  # fmt: skip


def drawn(spec: TileSpec, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    narrow = spec.device is not None and spec.device.conductance_range(0.0)[0] >= 5e-5
    low, high = (5e-5, 2.2e-4) if narrow else (2e-6, 9e-5)
    conductances = low + (high - low) * torch.rand(2, 7, 5, dtype=torch.float64, generator=generator)
    return conductances, 0.8 * torch.rand(2, 4, 7, dtype=torch.float64, generator=generator) - 0.4


@pytest.mark.parametrize("name", CIRCUITS)
def test_currents_are_those_of_the_circuit(name: str, engine) -> None:
    spec = tile(**CIRCUITS[name])
    conductances, voltages = drawn(spec)
    exact = SpiceTile(spec, engine).program(conductances)(voltages)
    found = NodalTile(spec).program(conductances)(voltages)
    scale = float(exact.abs().max())
    assert float((found - exact).abs().max()) < 2e-6 * scale
    # What the circuit has beyond a passive tile counts.
    bare = TileSpec(**{**tile().as_dict(), "cell": Ohmic().as_dict()})
    assert float((NodalTile(bare).program(conductances)(voltages) - exact).abs().max()) > 1e-3 * scale


def test_transistor_cells_but_for_the_rise_of_the_column_line(engine) -> None:
    fet = Nmos(body_effect=0.4, channel_modulation=0.05)
    spec = tile(
        cell=TransistorCell(device=Sinh(nonlinearity=3.0), transistor=fet), row_line_resistance=1.0,
        column_line_resistance=1.0, driver_resistance=10.0, sense_resistance=10.0,
    )  # fmt: skip
    conductances, voltages = drawn(spec)
    exact = SpiceTile(spec, engine).program(conductances)(voltages)
    found = NodalTile(spec).program(conductances)(voltages)
    missed = (found - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert float(missed) < 5e-3


def test_gradients_through_two_parts_in_series() -> None:
    spec = tile(rows=3, cols=2, cell=SelectorCell(device=Sinh(nonlinearity=3.0), selector=SELECTOR))
    conductances = (2 + 90 * torch.rand(3, 2, dtype=torch.float64)).requires_grad_()
    voltages = (torch.rand(2, 3, dtype=torch.float64) - 0.5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda g, v: 1e6 * NodalTile(spec, tolerance=1e-13).program(1e-6 * g)(v), (conductances, voltages), atol=1e-5
    )


def test_both_ends_share_the_power() -> None:
    """Cells take what the drivers deliver but for the loss in the lines; without lines, all of it."""
    spec = tile(cell=Sinh(nonlinearity=5.0), drive="double")
    conductances, voltages = drawn(spec)
    programmed = NodalTile(spec).program(conductances)
    across = programmed.cell_voltages(voltages)
    power = programmed.power(voltages)
    dissipated = (across * (conductances[:, None] * torch.sinh(5 * across) / 5)).sum((-2, -1))
    assert bool((power > dissipated).all())
    lossless = NodalTile(tile(cell=Sinh(nonlinearity=5.0), drive="double", row_line_resistance=0.0,
                              column_line_resistance=0.0, driver_resistance=0.0, sense_resistance=0.0))  # fmt: skip
    ideal = (voltages.unsqueeze(-1) * conductances[:, None] * torch.sinh(5 * voltages.unsqueeze(-1)) / 5).sum((-2, -1))
    torch.testing.assert_close(lossless.program(conductances).power(voltages), ideal, rtol=1e-9, atol=0)


def test_cell_voltages_of_ohmic_rows_driven_at_both_ends_obey_kirchhoff() -> None:
    """Currents and power come from the elimination, cell voltages from the iteration: they must fit together."""
    spec = tile(drive="double")
    conductances, voltages = drawn(spec)
    programmed = NodalTile(spec).program(conductances)
    currents = conductances[:, None] * programmed.cell_voltages(voltages)
    found = programmed(voltages)
    torch.testing.assert_close(currents.sum(-2), found, rtol=0, atol=1e-9 * float(found.abs().max()))
    drawn_power = (currents.sum(-1) * voltages).sum(-1)
    torch.testing.assert_close(drawn_power, programmed.power(voltages), rtol=1e-8, atol=0)


def test_what_only_spice_knows_is_refused_by_name() -> None:
    hot = tile(cell=TransistorCell(), temperature=350.0)
    with pytest.raises(NotAvailable, match="transistor cells"):
        NodalTile(hot).program(torch.full((7, 5), 1e-5, dtype=torch.float64))
    amplified = NodalTile(tile(amplifier=AMPLIFIER)).program(torch.full((7, 5), 1e-5, dtype=torch.float64))
    with pytest.raises(NotAvailable, match="reads one way only"):
        amplified.transposed_currents(torch.zeros(1, 5, dtype=torch.float64))
