"""The network back as plain torch layers with the weights of its chip."""

import itertools

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, AnalogLayer, AnalogLinear, AnalogMatrix, Composite, Hardware
from mdls_cosim.devices.variability import Drift, ProgrammingError, Variability
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.network import analog_layers, at, calibrate_columns, convert, program, to_torch
from mdls_cosim.tiles import TileSpec

MAPPINGS = ("pair", "interleaved_pair", "offset_column", "digital_offset")
ERRORS = Variability(effects=[ProgrammingError(absolute=3e-6)])


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def hardware(mapping="pair", rows=24, cols=7, **changes):
    tile = TileSpec(rows=rows, cols=cols)
    return Hardware(**{"tile": tile, "rung": "ideal", "mapping": mapping, "variability": ERRORS, **changes})


def outputs(model, *inputs):
    """Every tensor that a model returns."""
    with torch.no_grad():
        found = model(*inputs)
    flat = []
    queue = [found]
    while queue:
        each = queue.pop(0)
        queue[:0] = [part for part in each if part is not None] if isinstance(each, tuple) else []
        flat += [each] if isinstance(each, torch.Tensor) else []
    return flat


def assert_same(model, analog, *inputs):
    plain = to_torch(analog)
    assert not [part for part in plain.modules() if isinstance(part, AnalogLayer | Composite)]
    assert type(plain) is type(model)
    for found, expected in zip(outputs(plain, *inputs), outputs(analog, *inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    return plain


LAYERS = {
    "linear": (lambda: nn.Linear(30, 9), (4, 30)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (2, 3, 5)),
    "conv1d": (lambda: nn.Conv1d(3, 5, 4, stride=2, padding=2, dilation=2), (2, 3, 15)),
    "conv2d": (lambda: nn.Conv2d(5, 4, 3, padding="same", padding_mode="circular"), (2, 5, 6, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 3, (1, 2, 3), bias=False), (2, 2, 3, 4, 5)),
    "grouped": (lambda: nn.Conv2d(6, 6, 2, groups=3), (2, 6, 4, 5)),
    "depthwise, the last tile not full": (lambda: nn.Conv2d(5, 5, (2, 1), groups=5), (2, 5, 4, 5)),
    "depthwise, on two full tiles": (lambda: nn.Conv1d(12, 12, 2, groups=12), (2, 12, 5)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 3, 4, stride=2, padding=1, output_padding=1), (2, 4, 6)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(4, 6, (3, 2), stride=2, groups=2, dilation=2), (2, 4, 3, 4)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(5, 5, (1, 2, 1), groups=5, bias=False), (2, 5, 3, 2, 2)),
    "rnn": (lambda: nn.RNN(4, 5, nonlinearity="relu", num_layers=2), (3, 2, 4)),
    "lstm": (lambda: nn.LSTM(4, 5, bidirectional=True, batch_first=True), (2, 3, 4)),
    "lstm with a projection": (lambda: nn.LSTM(4, 5, proj_size=3, bias=False), (3, 2, 4)),
    "gru": (lambda: nn.GRU(4, 5, bias=False), (3, 2, 4)),
    "rnn cell": (lambda: nn.RNNCell(4, 5), (3, 4)),
    "lstm cell": (lambda: nn.LSTMCell(4, 5), (3, 4)),
    "gru cell": (lambda: nn.GRUCell(4, 5, bias=False), (3, 4)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(6, 2, 8, activation="gelu", norm_first=True), (3, 2, 6)),
}


def made(build):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build().double().eval()


@pytest.mark.parametrize(("name", "mapping"), list(itertools.product(LAYERS, MAPPINGS)))
def test_torch_computes_what_the_chip_computes_on_ideal_tiles(name, mapping):
    build, shape = LAYERS[name]
    model = made(build)
    states = {"states": 5, "slices": 2} if mapping in ("pair", "digital_offset") else {}
    analog, _ = convert(model, hardware(mapping, **states), seed=2)
    inputs = normal(*shape)
    plain = assert_same(model, analog, inputs)
    difference = (outputs(plain, inputs)[0] - outputs(model, inputs)[0]).abs().max()
    assert difference > 1e-3  # the chip holds other weights


@pytest.mark.parametrize(
    "options", [{}, {"kdim": 3, "vdim": 5, "bias": False}, {"add_bias_kv": True, "add_zero_attn": True}]
)
def test_attention(options):
    model = made(lambda: nn.MultiheadAttention(6, 2, batch_first=True, **options))
    analog, _ = convert(model, hardware(subtraction="digital", scaling="column"))
    inputs = (normal(2, 3, 6), normal(2, 4, options.get("kdim", 6)), normal(2, 4, options.get("vdim", 6)))
    assert_same(model, analog, *inputs)


@pytest.mark.parametrize("changes", [
    {"row_order": "channels"}, {"row_order": "taps"}, {"row_order": "dense"}, {"placement": "permuted"},
    {"weight_clip": 1.0}, {"group_tiles": "separate"}, {"scaling": "network"}, {"unmapped_conductance": 20e-6},
])  # fmt: skip
def test_every_arrangement(changes):
    model = made(lambda: nn.Sequential(nn.Conv2d(6, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 5, 2)))
    analog, _ = convert(model, hardware(rows=18, cols=8, **changes))
    assert_same(model, analog, normal(2, 6, 5, 5))


def test_groups_stay_where_the_cells_between_them_hold_zero():
    model = made(lambda: nn.Conv2d(6, 6, 2, groups=3))
    exact, _ = convert(model, hardware(variability=Variability()))
    assert exact.grouping.shared > 1
    plain = assert_same(model, exact, normal(2, 6, 4, 4))
    assert plain.groups == 3
    torch.testing.assert_close(plain.weight, model.weight, rtol=1e-12, atol=1e-12)
    spread, _ = convert(model, hardware())
    assert assert_same(model, spread, normal(2, 6, 4, 4)).groups < 3
    two_tiles = made(lambda: nn.Conv1d(12, 12, 2, groups=12))
    assert assert_same(two_tiles, convert(two_tiles, hardware())[0], normal(2, 12, 5)).groups == 2
    separate, _ = convert(model, hardware(group_tiles="separate"))
    assert assert_same(model, separate, normal(2, 6, 4, 4)).groups == 3


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_the_present_conditions_and_the_correction_of_columns_count(mapping):
    drifting = Variability(effects=[ProgrammingError(absolute=3e-6), Drift(exponent=0.05)])
    model = made(lambda: nn.Sequential(nn.Conv2d(4, 4, 2, groups=2, bias=False), nn.Flatten(), nn.Linear(36, 3)))
    inputs = normal(6, 4, 4, 4)
    analog, _ = convert(model, hardware(mapping, variability=drifting))
    later = at(analog, time="1 day")
    fresh = assert_same(model, analog, inputs)
    aged = assert_same(model, later, inputs)
    assert not torch.allclose(fresh[2].weight, aged[2].weight, rtol=1e-3)
    calibrate_columns(later, inputs)
    corrected = assert_same(model, later, inputs)
    assert corrected[0].bias is not None


def test_a_shift_gives_recurrent_layers_and_attention_a_bias():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.attention = nn.GRU(4, 4, bias=False), nn.MultiheadAttention(4, 2, bias=False)

        def forward(self, x):
            x = self.gru(x)[0]
            return self.attention(x, x, x)[0]

    model = made(Both)
    analog, _ = convert(model, hardware())
    inputs = normal(5, 3, 4)
    calibrate_columns(analog, inputs)
    plain = assert_same(model, analog, inputs)
    assert plain.gru.bias
    assert plain.attention.in_proj_bias is not None
    projected, _ = convert(made(lambda: nn.LSTM(4, 5, proj_size=3)), hardware())
    calibrate_columns(projected, inputs)
    with pytest.raises(NotAvailable, match=r"hr_l0.*"):
        to_torch(projected)


def test_a_model_with_parts_that_are_used_twice_digital_parts_and_users_attributes(classifier, images):
    classifier.head.threshold = 0.5
    analog, _ = convert(classifier, hardware(), rules={"features.0": None})
    before = analog.head.conductances.clone()
    plain = to_torch(analog)
    assert plain.again is plain.hidden
    assert type(plain.hidden) is nn.Linear
    assert plain.head.threshold == 0.5
    assert not {"hardware", "label"} & set(vars(plain.head))
    assert hasattr(analog, "at")
    assert not hasattr(plain, "at")
    torch.testing.assert_close(plain.features[0].weight, classifier.features[0].weight, rtol=0, atol=0)
    torch.testing.assert_close(plain(images[0]), analog(images[0]), rtol=1e-4, atol=1e-4)
    assert torch.equal(analog.head.conductances, before)
    assert len(analog_layers(analog)) == 3
    assert plain.head.weight.requires_grad
    assert plain.head.weight.dtype == torch.float32
    assert set(plain.state_dict()) == set(classifier.state_dict())
    program(analog, 7)
    assert not torch.equal(to_torch(analog).head.weight, plain.head.weight)


def test_the_layer_itself_and_a_matrix_alone():
    layer = AnalogLinear(4, 3, hardware=hardware(), dtype=torch.float64).train()
    plain = to_torch(layer)
    assert type(plain) is nn.Linear
    assert plain.training
    matrix = AnalogMatrix(normal(3, 4), hardware())
    x = normal(4)
    torch.testing.assert_close(to_torch(matrix).weight @ x, matrix @ x, rtol=1e-10, atol=1e-10)
    assert not to_torch(matrix).weight.requires_grad


def test_converters_and_wires_are_left_out(wired):
    """On real hardware the copy is the network of the conductances alone."""
    model = made(lambda: nn.Linear(10, 3))
    analog, _ = convert(model, Hardware(tile=wired, adc=Adc(bits=4), variability=ERRORS), seed=1)
    ideal, _ = convert(model, Hardware(tile=wired, rung="ideal", variability=ERRORS), seed=1)
    torch.testing.assert_close(to_torch(analog).weight, to_torch(ideal).weight, rtol=1e-12, atol=1e-12)


class Own(AnalogLinear):
    def forward(self, input):
        return 2 * super().forward(input)


def test_what_has_no_form_in_torch_is_refused_by_name():
    attention, _ = convert(made(lambda: nn.Sequential(nn.MultiheadAttention(4, 2))), hardware(attention="tiles"))
    with pytest.raises(
        NotAvailable, match=r"product of activations.*0\.scores \(AnalogProduct\).*attention=\"digital\""
    ):
        to_torch(attention)
    with pytest.raises(NotAvailable, match=r"known for this class.*1 \(Own\)"):
        to_torch(nn.Sequential(nn.ReLU(), Own(3, 2, hardware=hardware())))
    hooked = AnalogLinear(3, 2, hardware=hardware())
    hooked.register_forward_hook(lambda *each: None)
    with pytest.raises(NotAvailable, match=r"hooks.*\(model\) \(AnalogLinear\)"):
        to_torch(hooked)
    replaced = AnalogLinear(3, 2, hardware=hardware())
    replaced.forward = lambda input: input
    with pytest.raises(NotAvailable, match=r"forward was replaced.*0 \(AnalogLinear\)"):
        to_torch(nn.Sequential(replaced))
    with pytest.raises(InputError, match=r"torch\.nn\.Module"):
        to_torch(3)
