"""Conversion: rules, report, and the same function as the float model."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from mdls_cosim.analog import Adc, AnalogConv2d, AnalogLinear, AnalogLSTM, Dac, Hardware
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import ConfigError, InputError, NotAvailable
from mdls_cosim.network import analog_layers, calibrate, convert, on_rung
from mdls_cosim.surrogates import HeldOutError, LinearSurrogate


def test_many_states_and_bits_reproduce_the_float_model(classifier, images, ohmic):
    hardware = Hardware(tile=ohmic, states=2**20, dac=Dac(bits=24), adc=Adc(bits=24))
    before = copy.deepcopy(classifier.state_dict())
    model, report = convert(classifier, hardware)
    expected = classifier(images[0]).detach()
    result = model(images[0])
    # The second call of the layer used twice reaches beyond the range of its first input: calibrate on both.
    calibrate(model, images[0])
    result = model(images[0])
    # Single precision, and cancellation of 2 x 99 uS against small weights, through five layers.
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert [layer.name for layer in report.converted] == ["features.0", "features.3", "hidden", "head"]
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert type(classifier.hidden) is nn.Linear


def test_surrogates_of_different_origin_in_one_network_are_told(classifier, ohmic):
    errors = {"p99": 0.01, "classes": {"random / random": 0.001}, "bound": 0.02}
    first = LinearSurrogate(ohmic, parents=("sha256:a",), error=HeldOutError(rms=0.001, **errors))
    second = LinearSurrogate(ohmic.replace(sense_resistance=3.0), parents=("sha256:b",))
    hardware = Hardware(tile=first)
    _, report = convert(classifier, hardware)
    assert list(report.surrogates.values()) == [["features.0", "features.3", "hidden", "head"]]
    assert "different origin" not in str(report)
    _, report = convert(
        classifier, hardware, rules={"features.*": {"tile": second}, "head": {"rung": "nodal"}, "hidden": {"states": 4}}
    )
    assert list(report.surrogates.values()) == [["features.0", "features.3"], ["hidden"]]
    lines = str(report).splitlines()
    place = lines.index("2 surrogates of different origin")
    assert lines[place + 1] == f"  features.0, features.3: {second.provenance.content_hash} from sha256:b"
    assert lines[place + 2] == f"  hidden: {first.provenance.content_hash} from sha256:a, error 0.1 %"
    # What nothing was fitted for has no origin.
    assert not convert(classifier, Hardware(tile=ohmic))[1].surrogates


def test_shared_layers_stay_shared(classifier, ideal):
    model, report = convert(classifier, ideal)
    assert isinstance(model.hidden, AnalogLinear)
    assert model.again is model.hidden
    assert sum(layer.name in ("hidden", "again") for layer in report.converted) == 1


def test_first_matching_rule_counts(classifier, ideal):
    other = ideal.replace(rung="nodal")
    model, report = convert(
        classifier, ideal, rules={"features.0": other, "features.*": None, "again": {"states": 6}, "h*": {"states": 4}}
    )
    assert model.features[0].hardware is other
    assert type(model.features[3]) is nn.Conv2d
    assert model.hidden.hardware == ideal.replace(states=6)
    assert model.head.hardware == ideal.replace(states=4)
    reasons = {layer.name: layer.reason for layer in report.skipped}
    assert reasons["features.3"] == "by rule 'features.*'"
    assert "BatchNorm2d" in reasons["features.1"]
    assert set(reasons) == {"features.1", "features.3"}


def test_report_counts_cells_and_arrays(classifier, ohmic):
    hardware = Hardware(
        tile=ohmic,
        rung="nodal",
        weight_clip=1.0,
        variability=Variability(effects=(ProgrammingError(absolute=5e-6, maximum=90e-6),)),
    )
    model, report = convert(classifier, hardware, seed=2)
    first, second, hidden, _ = report.converted
    assert (first.kind, first.shape) == ("AnalogConv2d", (4, 1, 3, 3))
    assert (first.arrays, first.cells_used, first.cells) == (2, 2 * 36, 2 * 60)
    # Two groups of 18 inputs, 2 outputs: 2 row tiles each.
    assert (second.arrays, second.cells_used, second.cells) == (8, 2 * 72, 8 * 60)
    # 16 x 16: 2 row tiles, 3 column tiles.
    assert (hidden.arrays, hidden.cells_used, hidden.cells) == (12, 2 * 256, 12 * 60)
    weights = classifier.hidden.weight.detach().double()
    assert hidden.clipped_weights == int((weights.abs() > weights.square().mean().sqrt()).sum()) > 0
    assert hidden.clipped_conductances == int((model.hidden.conductances == 0).sum()) + int(
        (model.hidden.conductances == 90e-6).sum()
    )
    assert report.clipped == sum(layer.clipped_weights + layer.clipped_conductances for layer in report.converted)
    table = str(report)
    for word in ("features.3", "nodal", "512/720", "BatchNorm2d", "converted 4, skipped 1"):
        assert word in table
    assert report.as_dict()["converted"][2]["cells"] == 720


def test_same_seed_same_chip_on_every_rung(classifier, ideal):
    noisy = ideal.replace(variability=Variability(effects=(ProgrammingError(relative=0.1),)))
    one = analog_layers(convert(classifier, noisy, seed=1)[0])
    same = analog_layers(convert(classifier, noisy.replace(rung="nodal"), seed=1)[0])
    other = analog_layers(convert(classifier, noisy, seed=2)[0])
    for name, layer in one.items():
        assert torch.equal(layer.conductances, same[name].conductances)
        assert not torch.equal(layer.conductances, other[name].conductances)
    # Layers of one shape do not share their draws.
    twins = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    twins[1].load_state_dict(twins[0].state_dict())
    converted, _ = convert(twins, noisy)
    assert not torch.equal(converted[0].conductances, converted[1].conductances)


def test_pattern_without_a_layer_names_close_ones(classifier, ideal):
    with pytest.raises(ConfigError, match=r"matches no layer.*heed.*head"):
        convert(classifier, ideal, rules={"heed": None})
    with pytest.raises(ConfigError, match=r"feature\.\*.*features\.0"):
        convert(classifier, ideal, rules={"feature.*": None})


def test_wrong_rules_are_refused(classifier, ideal):
    with pytest.raises(ConfigError, match="stats"):
        convert(classifier, ideal, rules={"head": {"stats": 6}})
    with pytest.raises(InputError, match="head"):
        convert(classifier, ideal, rules={"head": 6})


def test_a_model_that_is_a_layer(ideal):
    digital = nn.Linear(4, 3)
    model, report = convert(digital, ideal)
    assert isinstance(model, AnalogLinear)
    assert report.converted[0].name == ""
    assert "(model)" in str(report)
    assert type(convert(digital, ideal, rules={"*": None})[0]) is nn.Linear


class Doubled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


class OwnMatrix(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 3, 1))
        self.matrix = nn.Parameter(torch.ones(3, 3))


class OwnEncoder(nn.TransformerEncoderLayer):
    """May never call what is in it."""


def refused():
    """Models of one layer `it` beside another one, and what is said about it."""
    hooked, hooked_whole = nn.Linear(3, 3), nn.LSTM(3, 3)
    for each in (hooked, hooked_whole):
        each.register_forward_hook(lambda module, args, output: output)
    orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(3, 3))
    pruned, whole, inner = nn.Linear(3, 3), nn.LSTM(3, 3), nn.MultiheadAttention(4, 2)
    prune.l1_unstructured(pruned, "weight", 0.5)
    prune.random_unstructured(whole, "weight_hh_l0", 0.5)
    prune.l1_unstructured(inner.out_proj, "weight", 0.5)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch is about to drop it
        normed = nn.utils.weight_norm(nn.Linear(3, 3))
    spectral = nn.utils.spectral_norm(nn.Conv2d(3, 3, 3))
    spectral(torch.ones(1, 3, 3, 3))  # from here on its weight is computed
    inside = nn.TransformerEncoderLayer(4, 2, 8)
    nn.utils.parametrizations.orthogonal(inside.linear1)
    return {
        "subclass": (Doubled(3, 3), "it (Doubled): a subclass"),
        "own matrix": (OwnMatrix(), "it (OwnMatrix): its matrix is in no layer"),
        "bilinear": (nn.Bilinear(3, 3, 3), "it (Bilinear): its matrix is in no layer"),
        "lazy": (nn.LazyLinear(3), "it (LazyLinear): its weights are not initialised"),
        "hooks": (hooked, "it (Linear): carries hooks"),
        "hooks on a whole": (hooked_whole, "it (LSTM): carries hooks"),
        "parametrised": (orthogonal, "it (ParametrizedLinear): has parametrisations"),
        "parametrised inside": (inside, "it (TransformerEncoderLayer): has parametrisations"),
        "pruned": (pruned, "it (Linear): is pruned by a hook, which would be lost; torch's prune.remove"),
        "pruned whole": (whole, "it (LSTM): is pruned"),
        "pruned inside": (inner, "it (MultiheadAttention): is pruned"),
        "weight norm": (
            normed,
            "it (Linear): is normalised by a hook, which would be lost; torch's remove_weight_norm",
        ),
        "spectral norm": (
            spectral,
            "it (Conv2d): is normalised by a hook, which would be lost; torch's remove_spectral",
        ),
        "subclass of a whole": (OwnEncoder(4, 2, 8), "it (OwnEncoder): a subclass"),
        "complex": (nn.Linear(3, 3, dtype=torch.complex64), "it (Linear): its weights are no plain numbers"),
        "nowhere": (nn.Linear(3, 3, device="meta"), "it (Linear): its weights are no plain numbers"),
    }


def test_a_pruned_layer_that_stays_digital_is_copied_as_it_is(ideal):
    x = torch.rand(4, 3)
    digital = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    prune.l1_unstructured(digital[0], "weight", 0.5)
    expected = digital[0](x)
    model, _ = convert(digital, ideal, rules={"0": None})
    for copied in (model, model.at(time="1 day"), on_rung(model, "nodal")):
        assert torch.equal(copied[0](x), expected)
        assert copied[0].weight_orig is not digital[0].weight_orig
        assert bool((copied[0].weight_mask == digital[0].weight_mask).all())
    assert digital[0].weight.grad_fn is not None
    prune.remove(digital[0], "weight")
    assert [layer.name for layer in convert(digital, ideal)[1].converted] == ["0", "2"]


@pytest.mark.parametrize("case", list(refused()))
def test_matrices_without_a_form_on_tiles_are_refused_by_name(ideal, case):
    layer, message = refused()[case]
    model = nn.ModuleDict({"other": nn.Linear(3, 3), "it": layer})
    with pytest.raises(
        NotAvailable, match=r'Keep it digital with the rule "it": None \(TOML: "it" = "digital"\)'
    ) as caught:
        convert(model, ideal)
    assert message in str(caught.value)
    assert "other" not in caught.value.what
    assert "it." not in caught.value.what
    # A rule of its own keeps it as it is.
    converted, report = convert(model, ideal, rules={"it": None})
    assert [each.name for each in report.converted] == ["other"]
    assert [(each.name, each.kind, each.reason) for each in report.skipped] == [
        ("it", type(layer).__name__, "by rule 'it'")
    ]
    assert str(converted["it"]) == str(layer)


def test_all_refusals_are_told_at_once(ideal):
    with pytest.raises(NotAvailable, match=r"0 \(Bilinear\).*1 \(Doubled\)"):
        convert(nn.Sequential(nn.Bilinear(3, 3, 3), Doubled(3, 3), nn.Linear(3, 3)), ideal)
    with pytest.raises(NotAvailable, match=r"\(model\) \(Doubled\)"):
        convert(Doubled(3, 3), ideal)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch is about to drop them
def test_quantised_layers_are_refused_though_they_have_no_parameters(ideal):
    quantised = pytest.importorskip("torch.ao.nn.quantized")
    with pytest.raises(NotAvailable, match=r"0 \(Linear\): its weights are packed"):
        convert(nn.Sequential(quantised.Linear(3, 3)), ideal)


def test_what_has_no_matrix_product_stays_digital(ideal):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, 3, 1))

    class Positions(nn.Embedding):
        pass

    model = nn.ModuleList(
        [nn.LayerNorm((2, 3)), nn.Embedding(3, 3), Positions(3, 3), nn.PReLU(3), nn.BatchNorm1d(3), Scaled()]
    ).append(AnalogConv2d(1, 1, 1, hardware=ideal))
    converted, report = convert(model, ideal)
    assert report.converted == ()
    reasons = [each.reason for each in report.skipped]
    assert ["LayerNorm" in reasons[0], "Positions" in reasons[2], "PReLU" in reasons[3]] == [True] * 3
    assert reasons[-1] == "already analog"
    assert [type(each) for each in converted] == [type(each) for each in model]


class Hidden(nn.Module):
    """Matrices where no layer multiplies by them."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.positions = Positions()
        self.used, self.bypassed, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("table", torch.rand(4, 4))
        self.register_buffer("mask", torch.ones(4, 4).tril())
        self.register_buffer("counts", torch.ones(4, 4, dtype=torch.int64))

    def forward(self, tokens):
        x = self.used(self.positions(self.embedding(tokens)))
        x = torch.einsum("btk,kj->btj", x, self.table) @ self.bypassed.weight.T + self.mask[: x.shape[1]]
        return nn.functional.linear(x, self.embedding.weight)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("code", torch.rand(1, 5, 4), persistent=False)
        self.register_buffer("scale", torch.ones(1, 1, 4))

    def forward(self, x):
        return x * self.scale + self.code[:, : x.shape[1]]


def test_matrices_that_no_layer_shows_are_told(ideal):
    tokens = torch.randint(0, 9, (6, 3))
    _, report = convert(Hidden(), ideal, calibration=[tokens])
    skipped = {layer.name: layer.reason for layer in report.skipped}
    assert skipped[""] == "Hidden holds table, mask as buffers: what it multiplies by them is digital"
    assert skipped["positions"] == "Positions holds code as buffers: what it multiplies by them is digital"
    assert [layer.name for layer in report.converted] == ["used", "bypassed", "unused"]
    assert report.unread == ("bypassed", "unused")
    # Masks and positions are added: no products.
    assert report.digital_products == ("table", "bypassed.weight", "embedding.weight")
    assert "converted and never read in the calibration: bypassed, unused" in str(report)
    assert "multiplied by digitally, past any layer: table, bypassed.weight, embedding.weight" in str(report)
    # Before anything runs nobody can know.
    blind = convert(Hidden(), ideal)[1]
    assert (blind.unread, blind.digital_products) == ((), ())
    # A digital layer that a rule chose is no surprise, nor are the products on tiles.
    x = torch.rand(5, 4)
    chosen = convert(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)), ideal, rules={"1": None}, calibration=x)[1]
    assert (chosen.unread, chosen.digital_products) == ((), ())


def test_hardware_is_no_tile(ideal, classifier):
    for call in (lambda: convert(classifier, ideal.tile), lambda: AnalogLinear(3, 3, hardware=ideal.tile)):
        with pytest.raises(InputError, match=r'no hardware: got "TileSpec", allowed a Hardware. Hardware\(tile='):
            call()
    with pytest.raises(InputError, match=r'got "str", allowed a Hardware$'):
        convert(classifier, "ideal")


def test_calibration_on_nothing_is_refused(ideal, classifier, images):
    for nothing in (images[0][:0], (images[0][:0], images[1][:0]), []):
        with pytest.raises(InputError, match='no data to calibrate on at calibration: got "0 items"'):
            convert(classifier, ideal, calibration=nothing)


class Everything(nn.Module):
    """Tokens through every kind of layer that becomes several."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.lstm = nn.LSTM(6, 3, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(6, 6, batch_first=True)
        self.rnn = nn.RNN(6, 6, batch_first=True)
        self.cell = nn.GRUCell(6, 6)
        layer = nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 8, 0.0, batch_first=True), 1)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens, padding=None):
        x = self.rnn(self.gru(self.lstm(self.embedding(tokens))[0])[0])[0]
        states = [self.cell(x[:, 0])]
        for each in x[:, 1:].unbind(1):
            states.append(self.cell(each, states[-1]))
        memory = self.encoder(torch.stack(states, 1), src_key_padding_mask=padding)
        return self.head(self.decoder(x, memory, memory_key_padding_mask=padding))


@pytest.fixture
def everything():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Everything().double().eval()


TOKENS = torch.arange(8).reshape(2, 4) % 7
PADDING = torch.tensor([[False, False, False, True], [False, False, False, False]])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # of the digital model
def test_recurrent_layers_and_transformers_reproduce_the_float_model(everything, ideal):
    model, report = convert(everything, ideal, calibration=TOKENS)
    assert len(report.converted) == 4 + 2 + 2 + 2 + 2 * 6 + 10 + 1
    assert all(layer.calibrated for layer in analog_layers(model).values())
    assert [layer.name for layer in report.converted][:4] == [
        "lstm.ih_l0", "lstm.hh_l0", "lstm.ih_l0_reverse", "lstm.hh_l0_reverse"
    ]  # fmt: skip
    digital = {type(part) for part in model.modules() if list(part.parameters(recurse=False))}
    assert digital == {AnalogLinear, nn.Embedding, nn.LayerNorm}
    for padding in (None, PADDING):
        for inference in (False, True):  # where torch's fused kernels would take over
            with torch.inference_mode(inference):
                expected = everything(TOKENS, padding).detach()
                result = model(TOKENS, padding).detach()
            # Double precision, and weights as differences of conductances, through ten layers.
            torch.testing.assert_close(result, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
    assert type(everything.lstm) is nn.LSTM
    assert everything.encoder.use_nested_tensor


def test_rules_reach_parts_and_wholes(everything, ideal):
    rules = {
        "encoder.layers.0.linear1": {"rung": "nodal"},
        "encoder.layers.0.self_attn": None,
        "encoder.layers.1": None,
        "lstm.hh_*": None,
        "lstm": {"states": 6},
        "gru": None,
        "*.multihead_attn.q_proj": {"states": 4},
    }
    model, report = convert(everything, ideal, rules)
    first, second = model.encoder.layers
    assert first.linear1.hardware.rung == "nodal"
    assert first.linear2.hardware == ideal
    assert type(first.self_attn) is nn.MultiheadAttention
    assert type(second) is nn.TransformerEncoderLayer
    assert type(second.self_attn) is nn.MultiheadAttention
    assert type(model.gru) is nn.GRU
    assert type(model.lstm.hh_l0) is nn.Linear
    assert model.lstm.ih_l0_reverse.hardware.states == 6
    assert model.decoder.layers[0].multihead_attn.q_proj.hardware.states == 4
    skipped = {layer.name: (layer.kind, layer.reason) for layer in report.skipped}
    assert skipped["gru"] == ("GRU", "by rule 'gru'")
    assert skipped["encoder.layers.1"] == ("TransformerEncoderLayer", "by rule 'encoder.layers.1'")
    assert skipped["encoder.layers.0.self_attn"][0] == "MultiheadAttention"
    assert skipped["lstm.hh_l0"] == ("Linear", "by rule 'lstm.hh_*'")
    assert not any(name.startswith(("gru.", "encoder.layers.1.", "encoder.layers.0.self_attn.")) for name in skipped)
    # Half on tiles, half in torch's own layers: the same function.
    calibrate(model, TOKENS)
    whole, _ = convert(everything, ideal, calibration=TOKENS)
    with torch.inference_mode():
        expected = whole(TOKENS, PADDING)
        # Finite states on some; the bounds of the conductance range hold all other weights exactly.
        torch.testing.assert_close(model(TOKENS, PADDING), expected, rtol=0, atol=0.3 * float(expected.abs().max()))
    with pytest.raises(ConfigError, match=r"matches no layer.*lstm\.ih_l0"):
        convert(everything, ideal, {"lstm.weight_ih_l0": None})


def test_a_whole_that_is_the_model_or_shared(ideal):
    model, report = convert(nn.LSTM(3, 4), ideal)
    assert isinstance(model, AnalogLSTM)
    assert [layer.name for layer in report.converted] == ["ih_l0", "hh_l0"]
    same = AnalogLSTM.from_digital(nn.LSTM(3, 4), ideal, seed=0)
    assert int(same.hh_l0.chip_seed) == int(model.hh_l0.chip_seed)
    lstm = nn.LSTM(3, 3)
    model, report = convert(nn.ModuleDict({"one": lstm, "two": lstm}), ideal, {"two.ih_l0": {"states": 5}})
    assert model["one"] is model["two"]
    assert model["one"].ih_l0.hardware.states == 5
    assert len(report.converted) == 2
    assert type(convert(lstm, ideal, {"*": None})[0]) is nn.LSTM


def test_modes_and_frozen_weights_of_parts_are_kept(ideal):
    layer = nn.TransformerEncoderLayer(4, 2, 8).train()
    layer.dropout1.eval()
    layer.self_attn.in_proj_weight.requires_grad_(False)
    with torch.no_grad():
        model, _ = convert(nn.Sequential(layer, nn.LSTM(4, 4).eval()), ideal)
    assert [model[0].training, model[0].dropout.training, model[0].dropout1.training] == [True, True, False]
    assert not model[0].self_attn.k_proj.weight.requires_grad
    assert model[0].self_attn.k_proj.bias.requires_grad
    assert not model[1].hh_l0.training


def test_one_scale_for_the_whole_network(ideal):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        for index, layer in enumerate(model):
            layer.weight.fill_((0.5, -2.0, 3.0, 0.0)[index])
    shared = ideal.replace(scaling="network")
    converted, report = convert(model, shared, rules={"2": {"scaling": "layer"}}, seed=4)
    # The third does not share; the fourth, all zeros, has no scale.
    assert [float(layer.weight_scale.max()) for layer in converted] == [2.0, 2.0, 3.0, 2.0]
    lowest, highest = shared.conductance_range
    assert float(converted[0].conductances.max()) == pytest.approx(lowest + (highest - lowest) / 4)
    assert [int(layer.chip_seed) for layer in converted] == [
        int(each.chip_seed) for each in convert(model, ideal, seed=4)[0]
    ]
    assert report.clipped == 0
    x = torch.ones(2, 3)
    torch.testing.assert_close(converted(x), model(x), rtol=1e-5, atol=1e-5)
    converted[0].program(1)
    assert float(converted[0].weight_scale.max()) == 2.0


def test_calibration_data_sets_every_range(classifier, images, ohmic):
    hardware = Hardware(tile=ohmic, rung="ideal", dac=Dac(bits=6), adc=Adc(bits=6))
    model, report = convert(classifier, hardware, calibration=images)
    assert report.calibrated
    assert all(layer.calibrated for layer in analog_layers(model).values())
    ranges = [float(layer.input_peak) for layer in analog_layers(model).values()]
    model(10 * images[0])
    assert [float(layer.input_peak) for layer in analog_layers(model).values()] == ranges
    # Both calls of the layer used twice are within range.
    fresh, _ = convert(classifier, hardware, calibration=images)
    fresh(images[0])
    assert fresh.hidden.counters.dac_saturated == 0
    assert ranges[0] == float(images[0].abs().max())


def test_modes_and_frozen_parameters_are_kept(classifier, ideal):
    classifier.train()
    classifier.head.eval()
    classifier.head.weight.requires_grad_(False)
    model, _ = convert(classifier, ideal)
    assert model.hidden.training
    assert not model.head.training
    assert not model.head.weight.requires_grad


def test_hardware_that_cannot_be_computed_fails_at_once(classifier, ohmic):
    from mdls_cosim.devices import Sinh

    with pytest.raises(ConfigError, match="need a fitted one"):
        convert(classifier, Hardware(tile=ohmic.replace(cell=Sinh())))
