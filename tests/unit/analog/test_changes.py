"""Changes of a converted model: they act, or they are refused, or a warning says that they do not act."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

from mdls_cosim.analog import AnalogLinear, Hardware
from mdls_cosim.analog import changes as changes_module
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import ConfigError, IgnoredChangeWarning, InputError
from mdls_cosim.network import analog_layers, convert, evaluate, on_rung, program
from mdls_cosim.tiles import TileSpec

IDEAL = Hardware(tile=TileSpec(rows=10, cols=6), rung="ideal")
X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def in_place(layer):
    with torch.no_grad():
        layer.weight.mul_(2)


def through_data(layer):
    layer.weight.data[0, 0] += 1


def other_data(layer):
    layer.weight.data = 2 * layer.weight.data


def other_parameter(layer):
    layer.weight = nn.Parameter(2 * layer.weight.detach())


def initialised(layer):
    nn.init.ones_(layer.weight)


def optimised(layer):
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.SGD([layer.weight], 0.1).step()


def loaded(layer):
    layer.load_state_dict({"weight": 2 * layer.weight.detach(), "bias": layer.bias.detach()}, strict=False)


def permuted(layer):
    layer.weight.data = layer.weight.data.flip(0)


WRITES = [in_place, through_data, other_data, other_parameter, initialised, optimised, loaded, permuted]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("large", [False, True])
def test_weights_that_change_without_programming_are_told_once(write, large, monkeypatch):
    if large:
        monkeypatch.setattr(changes_module, "SUMMED", 0)
    tiles, _ = convert(network(), IDEAL)
    before = tiles(X)
    write(tiles[2])
    with pytest.warns(IgnoredChangeWarning, match=r"weights of 2 \(AnalogLinear\) changed since they were programmed"):
        assert torch.equal(tiles(X), before)
    tiles(X)
    tiles[2].program(1)
    after = tiles(X)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(
        after, nn.functional.linear(torch.relu(tiles[0](X)), tiles[2].weight, tiles[2].bias), rtol=1e-4, atol=1e-5
    )
    tiles(X)  # no warning


def test_biases_act_at_once():
    tiles, _ = convert(network(), IDEAL)
    before = tiles(X)
    with torch.no_grad():
        tiles[2].bias += 1
    torch.testing.assert_close(tiles(X), before + 1)
    tiles[2].bias = None
    tiles(X)


@pytest.mark.parametrize(
    "same",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: on_rung(model, "nodal"),
        lambda model: model.at(time="1 day"),
        lambda model: model.half(),
        lambda model: model.double().float(),
        lambda model: model.share_memory(),
        lambda model: (model.load_state_dict(copy.deepcopy(model.state_dict())), model)[1],
        lambda model: (model[0].weight.data.mul_(1), model)[1],
        lambda model: (torch.nn.utils.vector_to_parameters(
            torch.nn.utils.parameters_to_vector(model.parameters()).detach(), model.parameters()), model)[1],
    ],
)  # fmt: skip
def test_the_same_weights_are_no_change(same):
    moved = same(convert(network(), IDEAL)[0])
    moved(X.to(moved[0].weight.dtype))


def test_a_copy_of_changed_weights_still_tells():
    tiles, _ = convert(network(), IDEAL)
    in_place(tiles[0])
    for moved in (copy.deepcopy(tiles), pickle.loads(pickle.dumps(tiles))):
        with pytest.warns(IgnoredChangeWarning):
            moved(X)
    stream = io.BytesIO()
    torch.save(tiles, stream)
    stream.seek(0)
    with pytest.warns(IgnoredChangeWarning):
        torch.load(stream, weights_only=False)(X)


def test_evaluation_programs_the_changed_weights_and_gives_the_chip_back():
    tiles, _ = convert(network(), IDEAL.replace(variability=Variability(effects=(ProgrammingError(relative=0.1),))))
    tiles(X)
    in_place(tiles[0])
    evaluate(tiles, (X, torch.zeros(5, dtype=torch.int64)), runs=2)
    with pytest.warns(IgnoredChangeWarning):  # the earlier chip, of the earlier weights
        tiles(X)
    program(tiles, 3)
    tiles(X)


def test_gradients_that_are_asked_of_weights_are_told():
    tiles, _ = convert(network(), IDEAL)
    optimizer = torch.optim.Adam(tiles.parameters(), 0.1)
    before = tiles(X).detach()
    with pytest.warns(IgnoredChangeWarning, match="weights on tiles get no gradient"):
        tiles(X).square().sum().backward()
    assert tiles[0].weight.grad is None
    assert tiles[0].bias.grad is not None
    weights = tiles[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(tiles[0].weight, weights)
    assert not torch.allclose(tiles(X), before)  # the biases are digital, and follow


def test_gradients_of_inputs_and_digital_parts_are_no_mistake():
    tiles, _ = convert(network(), IDEAL)
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(tiles(x).sum(), x)
    tiles(x).sum().backward(inputs=[x, tiles[2].bias])
    torch.testing.assert_close(x.grad, slope)
    for layer in analog_layers(tiles).values():
        layer.weight.requires_grad_(False)
    tiles(x).sum().backward()
    torch.testing.assert_close(x.grad, 2 * slope)


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [
        (nn.Linear(6, 3), "in_features", 5),
        (nn.Conv2d(2, 3, 3), "stride", (2, 2)),
        (nn.Conv2d(2, 3, 3), "stride", 2),
        (nn.Conv2d(2, 3, 3), "padding", (1, 1)),
        (nn.Conv2d(2, 3, 3), "padding_mode", "circular"),
        (nn.Conv1d(2, 4, 3, groups=2), "groups", 1),
        (nn.ConvTranspose2d(2, 3, 3, stride=2), "stride", (1, 1)),
        (nn.ConvTranspose2d(2, 3, 3, stride=2), "dilation", (2, 2)),
    ],
)
def test_the_shape_of_a_layer_on_tiles_cannot_be_changed(layer, name, value):
    tiles, _ = convert(nn.ModuleDict({"it": layer}), IDEAL)
    with pytest.raises(ConfigError, match=rf"{name} of a layer on tiles cannot be changed at it .*convert it anew"):
        setattr(tiles["it"], name, value)
    setattr(tiles["it"], name, getattr(tiles["it"], name))
    tiles["it"].tag = value


def test_attributes_that_act():
    digital = nn.ConvTranspose1d(2, 3, 3, stride=2)
    tiles, _ = convert(digital, IDEAL)
    digital.output_padding = tiles.output_padding = (1,)
    x = X.reshape(2, 5, 3)[:, :2]
    torch.testing.assert_close(tiles(x), digital(x), rtol=1e-4, atol=1e-5)
    encoder = nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True).eval()
    tiles, _ = convert(encoder, IDEAL)
    x = X[None]
    for name, value in (("norm_first", True), ("activation", torch.tanh), ("_ff_block", lambda x: 3 * x)):
        setattr(encoder, name, value)
        setattr(tiles, name, value)
        torch.testing.assert_close(tiles(x), encoder(x), rtol=1e-4, atol=1e-5)


def test_weights_and_hardware_of_another_form_are_refused():
    tiles, _ = convert(nn.ModuleDict({"it": nn.Linear(6, 3)}), IDEAL)
    with pytest.raises(InputError, match=r"the weight of a layer on tiles keeps its shape at it .*\(3, 5\)"):
        tiles["it"].weight = nn.Parameter(torch.ones(3, 5))
    with pytest.raises(InputError, match="the bias of a layer on tiles keeps its shape"):
        tiles["it"].bias = nn.Parameter(torch.ones(4))
    with pytest.raises(InputError, match="tiles of another size"):
        tiles["it"].hardware = IDEAL.replace(tile=TileSpec(rows=12, cols=6))
    with pytest.raises(InputError, match="another highest conductance"):
        tiles["it"].hardware = IDEAL.replace(conductance_range=(1e-6, 50e-6))
    with pytest.raises(InputError, match="Hardware"):
        tiles["it"].hardware = TileSpec(rows=10, cols=6)
    tiles["it"].hardware = IDEAL.replace(rung="nodal")
    assert tiles["it"].hardware.rung == "nodal"


def test_parameters_by_the_names_of_torch():
    x = X[:, None]
    for digital in (nn.LSTM(6, 4, bidirectional=True), nn.GRU(6, 4, bias=False), nn.LSTMCell(6, 4)):
        tiles, _ = convert(nn.ModuleDict({"it": digital}), IDEAL)
        given = x[:, 0] if isinstance(digital, nn.LSTMCell) else x
        tiles["it"](given)
        names = dict(digital.named_parameters())
        assert all(torch.equal(getattr(tiles["it"], name), value) for name, value in names.items())
        name = next(name for name in names if "weight_hh" in name)
        setattr(tiles["it"], name, nn.Parameter(2 * names[name].detach()))
        with pytest.warns(IgnoredChangeWarning, match=rf"it\.{name.removeprefix('weight_')} \(AnalogLinear\) changed"):
            tiles["it"](given)
    for digital in (nn.MultiheadAttention(6, 2), nn.MultiheadAttention(6, 2, kdim=5, vdim=4, bias=False)):
        tiles, _ = convert(digital, IDEAL)
        for name, value in digital.named_parameters():
            if not name.startswith("out_proj"):
                assert torch.equal(getattr(tiles, name), value)
    assert not hasattr(tiles, "weight_none")


def test_a_read_programs_nothing_and_warns_of_nothing_by_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = AnalogLinear(6, 3, hardware=IDEAL)
        layer(X)
        layer.counters  # noqa: B018
        with torch.inference_mode():
            layer(X)
