"""Step responses against closed forms and the matrix exponential of state spaces written apart from them."""

import numpy as np
import pytest
import torch
from network import GROUND, Network, crossbar

from mdls_cosim.dataset import Array, Dataset
from mdls_cosim.devices import Ohmic, Sinh, ThresholdSelector
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.surrogates.settling import settling_errors, step_response
from mdls_cosim.tiles import SelectorCell, TileSpec, TransimpedanceAmplifier

TILE = TileSpec(
    rows=3,
    cols=4,
    row_line_resistance=300.0,
    column_line_resistance=500.0,
    driver_resistance=1e3,
    sense_resistance=700.0,
    row_line_capacitance=2e-15,
    column_line_capacitance=3e-15,
    cell_capacitance=0.5e-15,
)
ZERO = ("row_line_resistance", "column_line_resistance", "driver_resistance")


def drawn(rows, cols, seed=0, tiles=(), batch=2):
    generator = np.random.default_rng([seed, rows, cols])
    conductances = generator.uniform(1e-6, 3e-4, (*tiles, rows, cols))
    conductances[..., 0, -1] = 0.0
    return torch.as_tensor(conductances), torch.as_tensor(generator.uniform(-0.3, 0.3, (*tiles, batch, rows)))


def exact_currents(spec, conductances, voltages, times, ramp=0.0):
    """(cols, times) by the matrix exponential; a step at once, which `ramp` later is the mean over the ramp."""
    network = Network()
    for i, volts in enumerate(voltages):
        network.hold(("row", i), float(volts))
    for j in range(spec.cols):
        network.hold(("col", j), 0.0)
    crossbar(
        network,
        spec.rows,
        spec.cols,
        lambda i, j, u, v: network.conductor(u, v, float(conductances[i, j])),
        row_line=spec.row_line_resistance,
        column_line=spec.column_line_resistance,
        driver=spec.driver_resistance,
        sense=spec.sense_resistance,
    )
    for i in range(spec.rows):
        for j in range(spec.cols):
            u, v = ("u", i, j), ("v", i, j)
            for one, other, farad in (
                (u, GROUND, spec.row_line_capacitance),
                (v, GROUND, spec.column_line_capacitance),
                (u, v, spec.cell_capacitance),
            ):
                if farad:
                    network.capacitor(one, other, farad)
    ends = [("v", spec.rows - 1, j) for j in range(spec.cols)]
    return network.step_response(times, ends).T / spec.sense_resistance


# --- one time constant ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rise", [0.0, 1e-12, 2e-11])
@pytest.mark.parametrize("bits", [1, 6, 12])
def test_a_single_rc(rise, bits):
    """A ramp of an RC: I_end - I = I_end (tau/rise)(e^(rise/tau) - 1) e^(-t/tau) after it."""
    spec = TileSpec(rows=1, cols=1, driver_resistance=1e3, row_line_capacitance=1e-14)
    tau = 1e-14 / (1e-3 + 1e-4)
    response = step_response(spec, torch.tensor([[1e-4]]), torch.tensor([[0.3]]), rise=rise)
    final = 0.3 * 1e-4 / 1.1
    assert float(response.final) == pytest.approx(final, rel=1e-7)
    delayed = tau / rise * np.expm1(rise / tau) if rise else 1.0
    late = np.array([rise + 1e-13, 1e-11 + rise, 5e-11])
    np.testing.assert_allclose(
        response.currents(torch.as_tensor(late))[0, 0], final * (1 - delayed * np.exp(-late / tau)), rtol=1e-6
    )
    after = tau * np.log(delayed * 2 ** (bits + 1))
    if after > rise:
        assert float(response.settling_time(bits)) == pytest.approx(after, rel=1e-6)
    else:  # within half of the full scale before the ramp ends
        assert 0 < float(response.settling_time(bits)) <= rise
    during = np.linspace(0, rise, 7)[1:-1]
    if rise:
        exact = final * (during / rise - tau / rise * -np.expm1(-during / tau))
        np.testing.assert_allclose(response.currents(torch.as_tensor(during))[0, 0], exact, rtol=1e-6)


def test_the_charge_on_the_way_is_elmores_delay():
    """The area above the step response of node k of a line is the sum of what R and C they share."""
    spec = TileSpec(rows=1, cols=5, row_line_resistance=800.0, driver_resistance=2e3, row_line_capacitance=3e-15)
    response = step_response(spec, torch.full((1, 5), 1e-12).double(), torch.tensor([[0.3]]).double(), rise=0.0)
    found = (response.charges.sum(-1) / response.final)[0]
    elmore = [sum((2e3 + 800.0 * min(k, other)) * 3e-15 for other in range(5)) for k in range(5)]
    np.testing.assert_allclose(found, elmore, rtol=1e-5)


@pytest.mark.parametrize("gain", [20.0, 1e4])
def test_an_amplifier_alone_is_a_single_pole(gain):
    amplifier = TransimpedanceAmplifier(feedback_resistance=1e4, gain=gain, gain_bandwidth=1e8)
    spec = TileSpec(rows=1, cols=1, amplifier=amplifier, row_line_capacitance=1e-15)
    response = step_response(spec, torch.tensor([[5e-5]]).double(), torch.tensor([[0.3]]).double(), rise=0.0)
    load = 5e-5 * 1e4
    tau = gain / (2 * np.pi * 1e8) * (1 + load) / (1 + load + gain)
    assert float(response.final) == pytest.approx(0.3 * 5e-5 * gain / (1 + load + gain), rel=1e-9)
    assert float(response.settling_time(6)) == pytest.approx(tau * np.log(128), rel=1e-6)


# --- whole tiles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [(), *((name,) for name in ZERO), ZERO[:2]], ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (1, 3), (3, 1)], ids=str)
def test_tiles_follow_the_matrix_exponential(shape, zero):
    """As many modes as nodes: exact at every time, with ideal wires and an open cell too."""
    spec = TILE.replace(rows=shape[0], cols=shape[1], **dict.fromkeys(zero, 0.0))
    conductances, voltages = drawn(*shape)
    response = step_response(spec, conductances, voltages, rise=0.0, modes=2 * shape[0] * shape[1])
    times = np.linspace(1e-12, 2e-10, 40)
    found = response.currents(torch.as_tensor(times)).numpy()
    for read in range(2):
        exact = exact_currents(spec, conductances.numpy(), voltages[read].numpy(), times)
        np.testing.assert_allclose(found[read], exact, atol=1e-7 * np.abs(response.final.numpy()).max())
    late = torch.tensor([1e-7], dtype=torch.float64)
    torch.testing.assert_close(response.currents(late)[..., 0], response.final, rtol=1e-9, atol=0)


def test_few_modes_are_enough():
    spec = TILE.replace(rows=6, cols=7, row_line_resistance=20.0, column_line_resistance=30.0)
    conductances, voltages = drawn(6, 7, batch=8)
    many = step_response(spec, conductances, voltages, modes=40).settling_time(6)
    for modes, allowed in ((4, 0.02), (8, 1e-3)):
        few = step_response(spec, conductances, voltages, modes=modes).settling_time(6)
        missed = (few - many).square().mean().sqrt() / many.square().mean().sqrt()
        assert float(missed) < allowed
    crude = step_response(spec, conductances, voltages, modes=1).settling_time(6)
    assert float((crude - many).abs().max() / many.max()) > 0.02


def test_settling_is_the_last_time_outside_the_band():
    conductances, voltages = drawn(3, 4, batch=5)
    for spec in (TILE, TILE.replace(amplifier=TransimpedanceAmplifier(feedback_resistance=5e3, gain_bandwidth=3e9))):
        response = step_response(spec, conductances, voltages)
        settled = response.settling_time(6)
        band = response.final.abs().max() / 2**7
        times = torch.linspace(0, 1.5 * float(settled.max()), 4001, dtype=torch.float64)
        miss = (response.currents(times) - response.final[..., None]).abs()
        after = torch.where(times > settled[..., None] + 1e-16, miss, torch.zeros(()))
        assert torch.all(after <= band * (1 + 1e-6))
        at = torch.stack(
            [
                response.currents(settled[read, col][None])[read, col, 0]
                for read in range(5)
                for col in range(4)
                if settled[read, col] > 0
            ]
        )
        ends = response.final[settled > 0]
        torch.testing.assert_close((at - ends).abs() / band, torch.ones_like(ends), rtol=1e-6, atol=0)


def test_twice_the_capacitance_takes_twice_as_long():
    conductances, voltages = drawn(3, 4)
    names = ("row_line_capacitance", "column_line_capacitance", "cell_capacitance")
    doubled = TILE.replace(**{name: 2 * getattr(TILE, name) for name in names})
    one = step_response(TILE, conductances, voltages, rise=1e-12).settling_time(8)
    two = step_response(doubled, conductances, voltages, rise=2e-12).settling_time(8)
    torch.testing.assert_close(two, 2 * one, rtol=1e-8, atol=0)


def test_the_full_scale_may_be_given():
    conductances, voltages = drawn(3, 4, batch=3)
    response = step_response(TILE, conductances, voltages)
    own = response.settling_time(6)
    torch.testing.assert_close(response.settling_time(6, response.final.abs().max()), own, rtol=0, atol=0)
    assert torch.all(response.settling_time(6, 2 * response.final.abs().max()) <= own)
    # The full scale of one read alone is smaller: its band is narrower.
    alone = step_response(TILE, conductances, voltages[:1]).settling_time(6)
    assert torch.all(alone >= own[:1] - 1e-18)
    narrow = response.settling_time(6, response.final.abs())
    assert torch.all(narrow >= own - 1e-18)


def test_tiles_and_batches_stay_apart():
    conductances, voltages = drawn(3, 4, tiles=(2, 3), batch=4)
    for cell in (Ohmic(), Sinh(nonlinearity=4.0)):
        spec = TILE.replace(cell=cell)
        together = step_response(spec, conductances, voltages).settling_time(6)
        assert together.shape == (2, 3, 4, 4)
        alone = step_response(spec, conductances[1, 2], voltages[1, 2]).settling_time(6)
        torch.testing.assert_close(together[1, 2], alone, rtol=1e-9, atol=0)
        # One input for all tiles, one tile for all inputs.
        assert step_response(spec, conductances, voltages[0, 0]).final.shape == (2, 3, 4, 4)
        shared = step_response(spec, conductances[0, 1], voltages).final
        torch.testing.assert_close(shared[1, 2], step_response(spec, conductances[0, 1], voltages[1, 2]).final)
        assert step_response(spec, conductances, voltages[..., :0, :]).settling_time().shape == (2, 3, 0, 4)


def test_no_tiles_have_no_times():
    conductances, voltages = drawn(3, 4, tiles=(2, 3), batch=4)
    assert step_response(TILE, conductances[:0], voltages[:0]).settling_time().shape == (0, 3, 4, 4)


def test_in_small_pieces_it_is_the_same(monkeypatch):
    conductances, voltages = drawn(3, 4, tiles=(3,), batch=7)
    for cell in (Ohmic(), Sinh(nonlinearity=4.0)):
        spec = TILE.replace(cell=cell)
        whole = step_response(spec, conductances, voltages).settling_time(6)
        with monkeypatch.context() as patch:
            patch.setattr("mdls_cosim.surrogates.settling._CHUNK", 2000)
            pieces = step_response(spec, conductances, voltages).settling_time(6)
        torch.testing.assert_close(pieces, whole, rtol=1e-9, atol=0)


def test_what_has_nothing_to_charge_follows_the_ramp():
    spec = TILE.replace(row_line_capacitance=0.0, column_line_capacitance=0.0, cell_capacitance=0.0)
    conductances, voltages = drawn(3, 4)
    response = step_response(spec, conductances, voltages, rise=1e-11)
    band = response.final.abs().max() / 2**7
    expected = 1e-11 * (1 - band / response.final.abs()).clamp_min(0)
    torch.testing.assert_close(response.settling_time(6), expected, rtol=1e-6, atol=1e-18)


def test_no_input_takes_no_time():
    conductances, voltages = drawn(3, 4)
    voltages[0] = 0
    response = step_response(TILE, conductances, voltages)
    assert torch.all(response.settling_time()[0] == 0)
    assert torch.all(response.settling_time()[1] > 0)
    assert torch.all(step_response(TILE, conductances, 0 * voltages).settling_time() == 0)
    assert torch.all(step_response(TILE, 0 * conductances, voltages).settling_time().isfinite())


def test_single_precision_inputs_are_computed_in_double():
    conductances, voltages = drawn(3, 4)
    double = step_response(TILE, conductances, voltages).settling_time()
    single = step_response(TILE, conductances.float(), voltages.float()).settling_time()
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, double, rtol=1e-4, atol=0)


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [({"rise": -1e-12}, "rise"), ({"rise": float("nan")}, "rise"), ({"modes": 0}, "modes"), ({"modes": 1.5}, "modes")],
)
def test_impossible_options_are_named(options, said):
    with pytest.raises(InputError, match=said):
        step_response(TILE, *drawn(3, 4), **options)


def test_hostile_inputs_are_named():
    conductances, voltages = drawn(3, 4)
    with pytest.raises(InputError, match="conductances"):
        step_response(TILE, conductances.mT, voltages)
    with pytest.raises(InputError, match="voltages"):
        step_response(TILE, conductances, voltages[:, :2])
    with pytest.raises(InputError, match="not finite"):
        step_response(TILE, conductances, voltages * float("nan"))
    response = step_response(TILE, conductances, voltages)
    for bits in (0, 25, 6.0, True):
        with pytest.raises(InputError, match="bits"):
            response.settling_time(bits)
    for scale in (0.0, -1e-6, float("nan"), float("inf")):
        with pytest.raises(InputError, match="full_scale"):
            response.settling_time(6, scale)


def test_tiles_that_no_torch_rung_knows_are_refused():
    conductances, voltages = drawn(3, 4)
    for spec in (TILE.replace(drive="double"), TILE.replace(cell=SelectorCell(selector=ThresholdSelector()))):
        with pytest.raises(NotAvailable):
            step_response(spec, conductances, voltages)


def settle_dataset(**changes) -> Dataset:
    conductances, voltages = drawn(3, 4, tiles=(2,), batch=3)
    times = step_response(TILE, conductances, voltages, rise=1e-11).settling_time(6).numpy()
    arrays = {
        "conductances": Array(conductances.numpy(), "S", ("tile", "row", "col")),
        "voltages": Array(voltages.numpy(), "V", ("tile", "vector", "row")),
        "settling_time": Array(changes.get("times", times), "s", ("tile", "vector", "col")),
    }
    config = {"tile": TILE.as_dict(), "settle": {"bits": 6, "rise": 1e-11}}
    return Dataset.create({"settle": arrays}, config={**config, **changes.get("config", {})}, seed=0)


def test_errors_are_those_of_a_dataset():
    exact = settle_dataset()
    (error,) = settling_errors(exact)
    assert error.rms < 1e-9
    assert error.outputs == 24
    times = exact.experiments["settle"]["settling_time"].values
    (error,) = settling_errors(settle_dataset(times=times / 1.1))
    assert error.rms == pytest.approx(0.1, rel=1e-6)
    assert error.slowest == pytest.approx(0.1, rel=1e-6)
    lost = times.copy()
    lost[1] = np.nan
    (error,) = settling_errors(settle_dataset(times=lost))
    assert error.outputs == 12
    assert error.rms < 1e-9


def test_a_dataset_without_settling_times_is_refused(nodal_dataset, tile_spec):
    with pytest.raises(InputError, match="no settling times"):
        settling_errors(nodal_dataset(tile_spec(3, 2), tiles=1, vectors=1))
    with pytest.raises(InputError, match="tell its tile"):
        settling_errors(settle_dataset(config={"tile": None}))
