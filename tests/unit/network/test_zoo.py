"""Models by name."""

import inspect
import sys
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from mdls_cosim.errors import ConfigError
from mdls_cosim.network.zoo import MODELS, factory, model
from mdls_cosim.network.zoo.googlenet import Inception
from mdls_cosim.network.zoo.resnet import PaddedShortcut, ResidualBlock
from mdls_cosim.network.zoo.transformer import PositionEmbedding

# The same structures, small.
SMALL = {
    "mlp": {"hidden": [24]},
    "lenet5": {},
    "vgg8": {"width": 4, "hidden": 16},
    "googlenet": {},
    "resnet18": {"width": 4},
    "resnet20": {"width": 4, "depth": 8},
    "mobilenet": {"width": 4},
    "transformer": {"width": 16, "depth": 2, "heads": 2, "hidden": 32, "dropout": 0.0},
}


def conv(inputs: int, outputs: int, kernel: int) -> int:
    """Weights of a convolution without bias, and of the batch normalisation that follows."""
    return inputs * outputs * kernel**2 + 2 * outputs


def googlenet_parameters() -> int:
    """From the widths as the papers' tables give them: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, pooled."""
    table = [
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    ]
    count, maps = conv(3, 192, 3), 192
    for one, reduced3, three, reduced5, five, pooled in table:
        count += conv(maps, one, 1) + conv(maps, reduced3, 1) + conv(reduced3, three, 3)
        count += conv(maps, reduced5, 1) + conv(reduced5, five, 3) + conv(five, five, 3) + conv(maps, pooled, 1)
        maps = one + three + five + pooled
    assert maps == 1024
    return count + 1024 * 10 + 10


def vgg8_parameters(last: int) -> int:
    """From the published widths, every convolution with a bias, every second one normalised."""
    widths = [3, 48, 48, 96, 96, 144, 144]
    convolutions = sum(9 * a * b + b for a, b in pairwise(widths))
    return convolutions + 2 * (48 + 96 + 144) + last * 384 + 384 + 384 * 10 + 10


def encoder_parameters(width: int, hidden: int) -> int:
    """Four projections with biases, two linear layers, two normalisations."""
    return 4 * (width**2 + width) + 2 * width * hidden + hidden + width + 4 * width


# Of the common implementations where they are the same network, else counted from the structure above.
PARAMETERS = {
    ("mlp", 3, 32): 3072 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10,
    ("mlp", 1, 8): 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10,
    ("lenet5", 1, 32): 61_706,
    ("lenet5", 1, 28): 61_706,
    ("vgg8", 3, 32): vgg8_parameters(2304),
    ("googlenet", 3, 32): googlenet_parameters(),
    ("resnet18", 3, 32): 11_173_962,
    ("resnet20", 3, 32): 269_722,
    ("mobilenet", 3, 32): 3_217_226,
    ("transformer", 3, 32): 48 * 128 + 128 + 64 * 128 + 4 * encoder_parameters(128, 256) + 2 * 128 + 1290,
    ("transformer", 1, 8): 16 * 128 + 128 + 4 * 128 + 4 * encoder_parameters(128, 256) + 2 * 128 + 1290,
}


@pytest.mark.parametrize(("name", "channels", "size"), PARAMETERS)
def test_number_of_parameters(name, channels, size):
    expected = PARAMETERS[name, channels, size]
    found = sum(parameter.numel() for parameter in model(name, channels=channels, size=size).parameters())
    assert found == expected
    assert f"{expected:,} parameters".replace(",", " ") in inspect.getdoc(MODELS[name]) or (channels, size) != (3, 32)


def test_every_docstring_tells_counts_and_source():
    for builder in MODELS.values():
        text = inspect.getdoc(builder)
        assert "parameters at" in text
        assert "doi:10." in text


@pytest.mark.parametrize("size", [8, 12, 16, 28, 32, 40])
@pytest.mark.parametrize("name", MODELS)
def test_classifies_images_of_any_size(name, size):
    net = model(name, classes=7, channels=2, size=size, **SMALL[name]).eval()
    with torch.no_grad():
        outputs = net(torch.rand(2, 2, size, size))
    assert outputs.shape == (2, 7)
    assert torch.isfinite(outputs).all()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "transformer"])
def test_odd_sizes(name):
    assert model(name, channels=1, size=13, **SMALL[name]).eval()(torch.rand(1, 1, 13, 13)).shape == (1, 10)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_matters(name):
    """Each parameter gets a gradient, and belongs to a layer, not to a model's own arithmetic."""
    net = model(name, size=16, **SMALL[name])
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 16, 16, generator=generator)
    functional.cross_entropy(net(images), torch.arange(8)).backward()
    silent = [key for key, each in net.named_parameters() if each.grad is None or not each.grad.abs().max() > 0]
    # A bias before a batch normalisation is subtracted again, up to rounding: no gradient is a right one.
    assert [key for key in silent if key not in ("conv2.bias", "conv4.bias", "conv6.bias")] == []
    owners = {type(each) for each in net.modules() if any(True for _ in each.parameters(recurse=False))}
    known = {nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm, nn.MultiheadAttention, PositionEmbedding}
    assert {owner for owner in owners if owner not in known and not issubclass(owner, nn.Linear)} == set()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "googlenet"])
def test_can_learn_by_heart(name):
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.rand(20, 1, 8, 8, generator=generator), torch.arange(20) % 10
    net = model(name, channels=1, size=8, **SMALL[name])
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        functional.cross_entropy(net(images), labels).backward()
        optimiser.step()
    assert (net(images).argmax(1) == labels).double().mean() >= 0.9


@pytest.mark.parametrize("name", ["googlenet", "resnet18", "resnet20", "mobilenet"])
def test_signals_live_without_training(name):
    """Normalisation does nothing yet, and still what reaches the head is of the images' size and depends on them."""
    net = model(name, size=16).eval()
    features = []
    net.head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    with torch.no_grad():
        net(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    # Weights as torch draws them give 1e-13 for GoogLeNet. MobileNet ends at 1x1 pixel, where zeros around it take 8/9
    # of what a 3x3 convolution sees: 0.004.
    assert 1e-3 < features[0].square().mean().sqrt() < 100
    assert features[0].std(0).max() > 0.01 * features[0].square().mean().sqrt()


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_drawn_from_the_seed(name):
    before = torch.random.get_rng_state()
    states = [model(name, size=8, seed=seed, **SMALL[name]).state_dict() for seed in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


class TestVgg8:
    def test_order_of_layers(self):
        kinds = [type(layer).__name__ for layer in model("vgg8")]
        pair = ["Conv2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
        assert kinds == [*pair * 3, "Flatten", "Linear", "ReLU", "Linear"]

    def test_widths(self):
        convolutions = [layer for layer in model("vgg8") if isinstance(layer, nn.Conv2d)]
        assert [layer.out_channels for layer in convolutions] == [48, 48, 96, 96, 144, 144]
        assert all(layer.kernel_size == (3, 3) and layer.padding == (1, 1) for layer in convolutions)
        assert all(layer.bias is not None for layer in convolutions)


class TestGoogLeNet:
    def test_receptive_fields_of_the_branches(self):
        """What a pixel of each branch sees: 1x1, 3x3, 5x5 (two of 3x3), 3x3 (pooled)."""
        block = Inception(2, 3, (2, 4), (2, 5), 6).eval()
        for parameter in block.parameters():
            nn.init.constant_(parameter, 0.1)  # nothing is negative, so that ReLU hides nothing
        edges = {0: 1, 3: 3, 7: 5, 12: 3}  # first map of each branch: pixels along an edge
        generator = torch.Generator().manual_seed(0)
        for first, edge in edges.items():
            seen = torch.zeros(11, 11)
            for _ in range(20):  # pooling hides most pixels of any one image
                images = torch.rand(1, 2, 11, 11, generator=generator).requires_grad_()
                block(images)[0, first : first + 3, 5, 5].sum().backward()
                seen += images.grad.abs().sum((0, 1))
            rows, cols = torch.nonzero(seen, as_tuple=True)
            assert (rows.min(), rows.max()) == (cols.min(), cols.max()) == (5 - edge // 2, 5 + edge // 2)

    def test_image_is_halved_twice(self):
        seen = {}
        net = model("googlenet").eval()
        for name, layer in net.named_children():
            layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: tuple(output.shape[1:])}))
        with torch.no_grad():
            net(torch.rand(1, 3, 32, 32))
        assert (seen["b3"], seen["e4"], seen["b5"]) == ((480, 32, 32), (832, 16, 16), (1024, 8, 8))


class TestResNet:
    def test_block_without_its_branch_is_its_shortcut(self):
        block = ResidualBlock(3, 5, 2, PaddedShortcut(3, 5, 2)).eval()
        nn.init.zeros_(block.second.norm.weight)
        images = torch.rand(2, 3, 7, 8)
        outputs = block(images)
        assert torch.equal(outputs[:, :3], images[:, :, ::2, ::2])
        assert not outputs[:, 3:].any()

    def test_layers_in_depth(self):
        """20 weighted layers on the longest path: stem, 9 blocks of two, head."""
        net = model("resnet20")
        assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in net.modules()) == 20
        deeper = model("resnet20", depth=32)
        assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in deeper.modules()) == 32

    def test_projected_shortcuts_are_resnet18s(self):
        shapes = [tuple(each.weight.shape) for each in model("resnet18").modules() if isinstance(each, nn.Conv2d)]
        assert [shape[:2] for shape in shapes if shape[2:] == (1, 1)] == [(128, 64), (256, 128), (512, 256)]

    def test_depths_that_are_none(self):
        with pytest.raises(ConfigError, match=r"depth.*got 18.*6 n \+ 2"):
            model("resnet20", depth=18)


def test_mobilenets_spatial_convolutions_are_depthwise():
    convolutions = [each for each in model("mobilenet").modules() if isinstance(each, nn.Conv2d)]
    spatial = [each for each in convolutions[1:] if each.kernel_size == (3, 3)]
    assert len(spatial) == 13
    assert all(each.groups == each.in_channels == each.out_channels for each in spatial)
    assert sum(each.stride == (2, 2) for each in spatial) == 4


class TestTransformer:
    def test_without_positions_patches_can_be_swapped(self):
        net = model("transformer", channels=1, size=8, **SMALL["transformer"]).double().eval()
        images = torch.rand(3, 1, 8, 8, dtype=torch.float64)
        swapped = torch.cat([images[..., 4:], images[..., :4]], dim=-1)
        with torch.no_grad():
            assert not torch.allclose(net(images), net(swapped))
            net.positions.weight.zero_()
            assert torch.allclose(net(images), net(swapped), rtol=1e-10)

    def test_layers_begin_differently(self):
        first, second = model("transformer", **SMALL["transformer"]).blocks
        assert not torch.equal(first.linear1.weight, second.linear1.weight)

    def test_patches_that_do_not_fill_the_image(self):
        with pytest.raises(ConfigError, match=r"patch: got 4, allowed one of 1, 2, 5"):
            model("transformer", size=10)
        assert model("transformer", size=10, patch=5)(torch.rand(1, 3, 10, 10)).shape == (1, 10)

    @pytest.mark.parametrize("options", [{"heads": 3}, {"dropout": 1.0}, {"dropout": "none"}])
    def test_impossible_options(self, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            model("transformer", **options)


class TestNames:
    def test_unknown_model(self):
        with pytest.raises(ConfigError, match=r"VGG-8.*mlp, lenet5, vgg8, googlenet, .* Did you mean vgg8\?"):
            model("VGG-8")
        with pytest.raises(ConfigError, match=r"module:function"):
            model("alexander")

    def test_unknown_option(self):
        with pytest.raises(ConfigError, match=r"no such option of vgg8 at depth: allowed width, hidden"):
            model("vgg8", depth=3)
        with pytest.raises(ConfigError, match=r"googlenet has no options"):
            model("googlenet", width=3)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("vgg8", {"size": 7}),
            ("vgg8", {"size": 32.0}),
            ("vgg8", {"classes": 0}),
            ("vgg8", {"channels": True}),
            ("vgg8", {"width": 0}),
            ("vgg8", {"width": "48"}),
            ("lenet5", {"bias": 1}),
            ("mlp", {"hidden": [64, 0]}),
            ("mlp", {"hidden": "64"}),
        ],
    )
    def test_impossible_values(self, name, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            model(name, **options)

    def test_mlp_without_hidden_layers_is_linear(self):
        assert [type(layer) for layer in model("mlp", hidden=[])] == [nn.Flatten, nn.Linear]


class TestFactory:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "their_networks.py").write_text(
            "from torch import nn\n"
            "class Nets:\n"
            "    small = staticmethod(lambda: nn.Linear(2, 2))\n"
            "def linear(inputs, outputs=3):\n"
            "    return nn.Linear(inputs, outputs)\n"
            "def nothing():\n"
            "    return 5\n"
            "def broken():\n"
            "    raise RuntimeError('their own')\n"
            "size = 3\n"
        )
        (tmp_path / "wants_more.py").write_text("import a_module_that_is_not_there\n")
        yield tmp_path
        for name in ("their_networks", "wants_more"):
            sys.modules.pop(name, None)

    def test_builds(self, folder):
        before = list(sys.path)
        net = factory("their_networks:linear", folder)(4, outputs=5)
        assert (net.in_features, net.out_features) == (4, 5)
        assert isinstance(factory("their_networks:Nets.small", folder)(), nn.Linear)
        assert sys.path == before

    def test_finds_what_python_finds(self):
        assert isinstance(factory("torch.nn:Linear")(2, 3), nn.Linear)

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("their_networks", r"module:function"),
            ("their_networks:", r"module:function"),
            ("their networks:linear", r"module:function"),
            ("../their_networks.py:linear", r"module:function"),
            ("other_networks:linear", r"no such module at other_networks:linear.*PYTHONPATH"),
            ("their_networks.deeper:linear", r"no such module"),
            ("their_networks:conv", r"no such function.*conv.*linear, nothing, broken"),
            ("their_networks:size", r"not a function.*int"),
        ],
    )
    def test_names_that_lead_nowhere(self, folder, reference, message):
        with pytest.raises(ConfigError, match=message):
            factory(reference, folder)

    def test_what_it_returns_is_checked(self, folder):
        with pytest.raises(ConfigError, match=r"no model at their_networks:nothing: got \"int\""):
            factory("their_networks:nothing", folder)()

    def test_arguments_that_it_does_not_take(self, folder):
        with pytest.raises(ConfigError, match=r"missing a required argument: 'inputs'.*\(inputs, outputs=3\)"):
            factory("their_networks:linear", folder)()
        with pytest.raises(ConfigError, match=r"unexpected keyword argument 'width'"):
            factory("their_networks:linear", folder)(3, width=5)

    def test_errors_of_the_users_code_go_through(self, folder):
        with pytest.raises(RuntimeError, match="their own"):
            factory("their_networks:broken", folder)()
        with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
            factory("wants_more:linear", folder)
