"""torch.compile goes around reads of tiles."""

import itertools
import logging
import subprocess
import sys

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, AnalogLayer, Dac, Hardware
from mdls_cosim.network import analog_layers, convert
from mdls_cosim.tiles import TileSpec

HARDWARE = Hardware(tile=TileSpec(rows=6, cols=6), dac=Dac(bits=6), adc=Adc(bits=6), attention="tiles")


class Mixed(nn.Module):
    """Layers of every kind, more of them than the compiler takes of one function."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        sizes = range(8, 19)
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.attention = nn.MultiheadAttention(18, 2, batch_first=True)

    def forward(self, images):
        x = torch.relu(self.conv(images)).flatten(1)
        for linear in self.linears:
            x = torch.relu(linear(x)) + 0.1
        x = x[:, None] * torch.ones(1, 3, 1)
        return self.attention(x, x, x)[0].sum(1)


@pytest.fixture(scope="module")
def converted():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return convert(Mixed().eval(), HARDWARE, calibration=torch.rand(9, 1, 3, 3))[0]


def test_no_graph_holds_a_read(converted, caplog, recwarn):
    graphs = []

    def backend(graph, _examples):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(converted, backend=backend)
    for count in (2, 5):  # another batch size
        images = torch.rand(count, 1, 3, 3)
        with torch.no_grad():
            expected = converted(images)
            before = {name: layer.counters.copy() for name, layer in analog_layers(converted).items()}
            assert torch.equal(compiled(images), expected)
        reads = {name: layer.counters.since(before[name]) for name, layer in analog_layers(converted).items()}
        assert reads["conv"].reads == 4 * count
        assert reads["linears.0"].reads == count
        assert reads["linears.0"].adc_conversions > 0
        assert reads["attention.scores"].reads == 2 * 3 * count
    # Nothing of a layer is in them: neither its numbers nor its parts.
    buffers = {name.rpartition(".")[2] for name, _ in converted.named_buffers()}
    for graph in graphs:
        inputs = [node.name for node in graph.graph.nodes if node.op in ("placeholder", "get_attr")]
        assert not [name for name in inputs if any(f"buffers_{buffer}_" in name for buffer in buffers)]
    # What is between the five products of attention, for one batch size and for any.
    assert len(graphs) <= 10
    assert not recwarn.list
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# torch's own look at `.grad` while it traces; it hides the warning, which an error is not.
@pytest.mark.filterwarnings("ignore:weights on tiles get no gradient")  # backward() asks all leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_gradients_go_through(converted):
    compiled = torch.compile(converted, backend="eager")
    images = torch.rand(2, 1, 3, 3)
    found = []
    for model in (converted, compiled):
        leaf = images.clone().requires_grad_()
        model(leaf).square().sum().backward()
        found.append(leaf.grad)
    assert torch.equal(*found)
    assert bool(found[0].abs().sum() > 0)


def test_every_layer_is_left_out():
    """Of a forward that is compiled, every shape of every layer would be a graph of its own."""

    def kinds(kind):
        return {kind, *(each for below in kind.__subclasses__() for each in kinds(below))}

    ours = [kind for kind in kinds(AnalogLayer) if kind.__module__.startswith("mdls_cosim.")]  # not those of tests
    forwards = {vars(kind)["forward"] for kind in ours if "forward" in vars(kind)}
    assert forwards
    assert all(hasattr(forward, "__wrapped__") for forward in forwards)


def test_reads_do_not_load_the_compiler():
    code = (
        "import sys, torch; from torch import nn; from mdls_cosim.analog import Hardware, AnalogLinear;"
        "from mdls_cosim.tiles import TileSpec;"
        "AnalogLinear(4, 3, hardware=Hardware(tile=TileSpec(rows=4, cols=4)))(torch.rand(2, 4));"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
