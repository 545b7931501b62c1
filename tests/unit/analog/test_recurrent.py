"""Recurrent layers on tiles against the torch layers whose weights they hold."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from mdls_cosim.analog import (
    Adc,
    AnalogGRU,
    AnalogGRUCell,
    AnalogLinear,
    AnalogLSTM,
    AnalogLSTMCell,
    AnalogRNN,
    AnalogRNNCell,
    Dac,
    Hardware,
)
from mdls_cosim.errors import InputError
from mdls_cosim.tiles import TileSpec

FINE = Hardware(tile=TileSpec(rows=5, cols=4), states=2**30, dac=Dac(bits=30), adc=Adc(bits=30))
PLAIN = Hardware(tile=TileSpec(rows=16, cols=16), rung="ideal")
ANALOG = {nn.RNN: AnalogRNN, nn.LSTM: AnalogLSTM, nn.GRU: AnalogGRU}
CELLS = {nn.RNNCell: AnalogRNNCell, nn.LSTMCell: AnalogLSTMCell, nn.GRUCell: AnalogGRUCell}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(module, seed):
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=100 * seed + index))
    return module


def assert_same(result, expected):
    """To 1e-5: 2^30 states and 30 bits leave 1e-9 of every product, through up to five steps of two layers."""
    if isinstance(expected, tuple) and not isinstance(expected, PackedSequence):
        assert isinstance(result, tuple)
        assert len(result) == len(expected)
        for one, other in zip(result, expected, strict=True):
            assert_same(one, other)
        return
    if isinstance(expected, PackedSequence):
        for one, other in zip(result[1:], expected[1:], strict=True):
            assert (one is None and other is None) or torch.equal(one, other)
        result, expected = result.data, expected.data
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()) + 1e-12)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_sequences_reproduce_torch(data):
    draw = data.draw
    kind = draw(st.sampled_from(list(ANALOG)))
    options = {
        "num_layers": draw(st.integers(1, 2)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    hidden = draw(st.integers(1, 5))
    if kind is nn.LSTM and hidden > 1:
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    if kind is nn.RNN:
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if options["num_layers"] > 1:
        options["dropout"] = draw(st.sampled_from([0.0, 1.0]))  # what is certain: nothing or everything
    seed = draw(st.integers(0, 99))
    inputs = draw(st.integers(1, 6))
    digital = filled(kind(inputs, hidden, **options, dtype=torch.float64), seed)
    digital.train(draw(st.booleans()))
    form = draw(st.sampled_from(["batch", "unbatched", "packed", "unsorted"]))
    steps, batch = draw(st.integers(1, 4)), 3
    count = options["num_layers"] * (2 if options["bidirectional"] else 1)
    out = options.get("proj_size") or hidden
    if form == "unbatched":
        x, between = normal(steps, inputs, seed=seed), ()
    else:
        x = normal(*((batch, steps) if options["batch_first"] else (steps, batch)), inputs, seed=seed)
        between = (batch,)
    if form in ("packed", "unsorted"):
        lengths = draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch))
        lengths = sorted(lengths, reverse=True) if form == "packed" else lengths
        x = pack_padded_sequence(x, torch.tensor(lengths), options["batch_first"], enforce_sorted=form == "packed")
    hx = None
    if draw(st.booleans()):
        hx = normal(count, *between, out, seed=seed + 1)
        hx = (hx, normal(count, *between, hidden, seed=seed + 2)) if kind is nn.LSTM else hx
    layer = ANALOG[kind].from_digital(digital, FINE)
    assert all(isinstance(part, AnalogLinear) for part in layer.children())
    assert layer.training == digital.training
    assert_same(layer(x, hx), digital(x, hx))


@pytest.mark.parametrize("kind", list(ANALOG))
def test_sequences_out_of_order_keep_their_states(kind):
    """Lengths whose order is not its own inverse."""
    digital = filled(kind(3, 4, bidirectional=True, dtype=torch.float64), 1)
    x = pack_padded_sequence(normal(3, 3, 3), torch.tensor([2, 1, 3]), enforce_sorted=False)
    assert not torch.equal(x.sorted_indices, x.unsorted_indices)
    hx = normal(2, 3, 4, seed=1)
    hx = (hx, normal(2, 3, 4, seed=2)) if kind is nn.LSTM else hx
    assert_same(ANALOG[kind].from_digital(digital, PLAIN)(x, hx), digital(x, hx))


@settings(deadline=None, max_examples=15)
@given(
    kind=st.sampled_from(list(CELLS)),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    bias=st.booleans(),
    batch=st.sampled_from([(), (1,), (4,)]),
    given_state=st.booleans(),
    relu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_cells_reproduce_torch(kind, sizes, bias, batch, given_state, relu, seed):
    options = {"nonlinearity": "relu" if relu else "tanh"} if kind is nn.RNNCell else {}
    digital = filled(kind(*sizes, bias, **options, dtype=torch.float64), seed)
    hx = None
    if given_state:
        hx = normal(*batch, sizes[1], seed=seed + 1)
        hx = (hx, normal(*batch, sizes[1], seed=seed + 2)) if kind is nn.LSTMCell else hx
    x = normal(*batch, sizes[0], seed=seed)
    layer = CELLS[kind].from_digital(digital, FINE)
    assert isinstance(layer.ih, AnalogLinear)
    assert isinstance(layer.hh, AnalogLinear)
    assert_same(layer(x, hx), digital(x, hx))


@pytest.mark.filterwarnings("ignore:weights on tiles get no gradient")  # backward() asks all leaves
@pytest.mark.parametrize("kind", list(ANALOG))
def test_gradients_reach_inputs_and_states(kind):
    digital = filled(kind(3, 4, num_layers=2, dtype=torch.float64), 1)
    layer = ANALOG[kind].from_digital(digital, PLAIN)
    found = []
    for each in (digital, layer):
        x, h = normal(5, 2, 3).requires_grad_(), normal(2, 2, 4, seed=1).requires_grad_()
        outputs, _ = each(x, (h, normal(2, 2, 4, seed=2)) if kind is nn.LSTM else h)
        (outputs * normal(5, 2, 4, seed=3)).sum().backward()
        found.append((x.grad, h.grad))
    assert float(found[0][1].abs().max()) > 1e-3
    assert_same(found[1], found[0])


def test_torchs_own_arguments_and_fresh_weights():
    layer = AnalogLSTM(3, 4, 2, batch_first=True, bidirectional=True, proj_size=2, hardware=PLAIN, seed=5)
    outputs, (hidden, cell) = layer(torch.ones(2, 6, 3))
    assert (outputs.shape, hidden.shape, cell.shape) == ((2, 6, 4), (4, 2, 2), (4, 2, 4))
    assert [name for name, _ in layer.named_children()][:4] == ["ih_l0", "hh_l0", "hr_l0", "ih_l0_reverse"]
    assert len({int(part.chip_seed) for part in layer.children()}) == 12
    with pytest.raises(TypeError, match="sizes"):
        AnalogGRU(3, 4, sizes=3, hardware=PLAIN)


def test_without_hardware_the_matrices_stay_digital():
    digital = nn.GRU(3, 4)
    opened = AnalogGRU(hardware=None, digital=digital)
    assert opened.hh_l0.weight is digital.weight_hh_l0
    assert not opened.on_tiles
    x = torch.ones(2, 3)
    torch.testing.assert_close(opened(x)[0], digital(x)[0])


def test_ranges_come_from_the_whole_first_sequence():
    """Hidden states grow from zero: the range of the first that is not zero would cut all others off."""
    digital = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float64)
    with torch.no_grad():
        digital.weight_ih_l0.fill_(1.0)
        digital.weight_hh_l0.fill_(1.0)
    layer = AnalogRNN.from_digital(digital, FINE)
    x = torch.ones(6, 1, 1, dtype=torch.float64)
    assert_same(layer(x), digital(x))
    assert float(layer.hh_l0.input_peak) == pytest.approx(5.0)
    assert not layer.hh_l0.calibrating
    layer(x, torch.ones(1, 1, 1, dtype=torch.float64))  # ranges are kept now: the sixth state does not fit
    assert float(layer.hh_l0.input_peak) == pytest.approx(5.0)
    assert layer.hh_l0.counters.dac_saturated > 0
    # A calibration that is under way goes on beyond one sequence.
    for part in layer.children():
        part.reset_calibration()
        part.calibrating = True
    layer(x)
    layer(2 * x)
    assert float(layer.hh_l0.input_peak) == pytest.approx(10.0)
    assert layer.hh_l0.calibrating


def test_state_dict_and_deepcopy_round_trip():
    layer = AnalogLSTM.from_digital(filled(nn.LSTM(3, 4, 2, dtype=torch.float64), 1), FINE)
    x = normal(3, 2, 3)
    layer(x)  # ranges are found
    expected = layer(x)
    other = AnalogLSTM(3, 4, 2, dtype=torch.float64, hardware=FINE)
    other.load_state_dict(layer.state_dict())
    for each in (other, copy.deepcopy(layer)):
        torch.testing.assert_close(each(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("inputs", "hx", "message"),
    [
        (torch.ones(2, 3, 4), None, r"AnalogGRU.*\(2, 3, 4\).*5"),
        (torch.ones(5), None, "wrong shape"),
        (torch.ones(0, 2, 5), None, "not empty"),
        (torch.ones(2, 3, 5), torch.ones(1, 2, 6), r"hidden state.*\(1, 2, 6\).*\(1, 3, 6\)"),
        (torch.ones(2, 5), torch.ones(2, 6), r"hidden state"),
    ],
)
def test_wrong_shapes_are_refused(inputs, hx, message):
    with pytest.raises(InputError, match=message):
        AnalogGRU(5, 6, hardware=PLAIN)(inputs, hx)


def test_wrong_states_of_an_lstm_are_refused():
    layer = AnalogLSTM(5, 6, hardware=PLAIN)
    with pytest.raises(InputError, match="hidden, cell"):
        layer(torch.ones(2, 3, 5), torch.ones(1, 3, 6))
    with pytest.raises(InputError, match="cell state"):
        AnalogLSTMCell(5, 6, hardware=PLAIN)(torch.ones(3, 5), (torch.ones(3, 6), torch.ones(3, 5)))
    with pytest.raises(InputError, match="wrong shape"):
        AnalogRNNCell(5, 6, hardware=PLAIN)(torch.ones(3, 4))


def test_models_may_ask_for_flat_parameters():
    for kind in (AnalogRNN, AnalogLSTM, AnalogGRU):
        assert kind(3, 2, hardware=None).flatten_parameters() is None
