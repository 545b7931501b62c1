"""Models as users build them: converted to the same function on ideal tiles, or refused with a rule that helps."""

import copy
import functools
import io
import pickle

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from mdls_cosim.analog import Hardware
from mdls_cosim.errors import NotAvailable
from mdls_cosim.network import convert
from mdls_cosim.tiles import TileSpec

IDEAL = Hardware(tile=TileSpec(rows=32, cols=32), rung="ideal")


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Does(nn.Module):
    """Two linear layers, others, and `work(self, x)`."""

    def __init__(self, work, **parts):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        for name, part in parts.items():
            setattr(self, name, part)
        self.work = work

    def forward(self, x):
        return self.work(self, x)


class KeywordOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 4)

    def forward(self, x, *, scale=2.0):
        return scale * self.a(input=x)


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).T


def tied():
    model = Does(lambda self, x: self.b(torch.relu(self.a(x))))
    model.b.weight = model.a.weight
    return model


def partial():
    model = nn.Sequential(nn.Linear(6, 6))
    model.forward = functools.partial(lambda self, x: 2 * self[0](x), model)
    return model


def hooked():
    model = nn.Sequential(nn.Linear(6, 6))
    model.register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


def reads_attributes(self, x):
    assert self.a.in_features == 6
    hidden = torch.zeros(self.rnn.num_layers, self.rnn.hidden_size, dtype=self.a.weight.dtype)
    self.rnn.flatten_parameters()
    return self.rnn(self.a(x), (hidden, hidden))[0]


SAME = {
    "tied weights": tied,
    "partial forward": partial,
    "hook on a container": hooked,
    "a layer called twice": lambda: Does(lambda self, x: self.b(self.a(self.a(x)))),
    "module dict": lambda: Does(lambda self, x: self.parts["x"](x), parts=nn.ModuleDict({"x": nn.Linear(6, 3)})),
    "keyword only": KeywordOnly,
    "no_grad": lambda: Does(torch.no_grad()(lambda self, x: self.a(x))),
    "checkpoint": lambda: Does(lambda self, x: checkpoint(self.b, self.a(x), use_reentrant=False)),
    "attributes": lambda: Does(reads_attributes, rnn=nn.LSTM(6, 4)),
    "fx graph": lambda: fx.symbolic_trace(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))),
    "scripted activation": lambda: nn.Sequential(nn.Linear(6, 6), torch.jit.script(nn.ReLU())),
    "data parallel": lambda: nn.DataParallel(nn.Linear(6, 6)),
    "initialised lazily": lambda: (lambda model: (model(normal(5, 6)), model)[1])(nn.Sequential(nn.LazyLinear(3))),
    "compiled": lambda: nn.Sequential(torch.compile(nn.Linear(6, 6), backend="eager")),
    "unbatched recurrence": lambda: Does(lambda self, x: self.rnn(self.a(x))[0], rnn=nn.GRU(6, 4)),
    "string padding": lambda: Does(lambda self, x: self.conv(x[None]), conv=nn.Conv1d(5, 3, 3, padding="same")),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("case", list(SAME))
def test_the_same_function(case):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = SAME[case]().eval(), normal(5, 6)
    tiles, report = convert(model, IDEAL, calibration=x)
    assert report.digital_products == ()
    for moved in (tiles, copy.deepcopy(tiles)):
        torch.testing.assert_close(moved(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "places"), [(torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
def test_half_precision_models(dtype, places):
    model = nn.Sequential(nn.Linear(6, 6), nn.TransformerEncoderLayer(6, 2, 8, 0.0)).to(dtype).eval()
    x = normal(5, 6).to(dtype)
    tiles, _ = convert(model, IDEAL, calibration=x)
    assert tiles(x).dtype == dtype
    expected = model(x).detach()
    torch.testing.assert_close(tiles(x).detach(), expected, rtol=0, atol=places * float(expected.abs().max()))


REFUSED = {
    "adapter": lambda: Does(lambda self, x: self.a(x) + x @ self.low @ self.high, low=nn.Parameter(torch.ones(6, 2)),
                            high=nn.Parameter(torch.ones(2, 6))),
    "parameter list": lambda: Does(lambda self, x: x @ self.ws[0], ws=nn.ParameterList([torch.ones(6, 6)])),
    "parametrised": lambda: Does(lambda self, x: self.c(x),
                                 c=parametrize.register_parametrization(nn.Linear(6, 6), "weight", Symmetric())),
    "spectral norm": lambda: Does(lambda self, x: self.c(x), c=parametrizations.spectral_norm(nn.Linear(6, 6))),
    "bilinear": lambda: Does(lambda self, x: self.c(x, x), c=nn.Bilinear(6, 6, 3)),
    "scripted": lambda: Does(lambda self, x: self.c(x), c=torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.ReLU()))),
    "quantised": lambda: Does(lambda self, x: self.c(x),
                              c=torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 6)))),
    "complex": lambda: Does(lambda self, x: self.c(x.cfloat()).real, c=nn.Linear(6, 6, dtype=torch.complex64)),
    "eight bits": lambda: Does(lambda self, x: self.a(x), c=nn.Linear(6, 6).to(torch.float8_e4m3fn)),
    "meta": lambda: Does(lambda self, x: self.a(x), c=nn.Linear(6, 6, device="meta")),
    "no inputs": lambda: Does(lambda self, x: self.a(x), c=nn.Linear(0, 6)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of torch.ao, torch.jit, empty layers
@pytest.mark.parametrize("case", list(REFUSED))
def test_refused_once_and_with_the_rule_that_helps(case):
    model, x = REFUSED[case]().eval(), normal(5, 6)
    with pytest.raises(NotAvailable, match="no form on tiles for") as caught:
        convert(model, IDEAL)
    assert len(str(caught.value)) < 300
    rule = str(caught.value).partition('the rule "')[2].partition('"')[0]
    tiles, _ = convert(model, IDEAL, rules={rule: None})
    torch.testing.assert_close(tiles(x), model(x), rtol=1e-4, atol=1e-5)


def test_files_of_whole_converted_models():
    tiles, _ = convert(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)), IDEAL)
    stream = io.BytesIO()
    torch.save(tiles, stream)
    stream.seek(0)
    for other in (torch.load(stream, weights_only=False), pickle.loads(pickle.dumps(tiles))):
        assert torch.equal(other(normal(5, 6)), tiles(normal(5, 6)))
