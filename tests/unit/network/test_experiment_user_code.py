"""Simulations of a user's own code: its edits count, its errors are told as its own, and refusals come first."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.errors import ExecutorError
from mdls_cosim.network import convert, evaluate
from mdls_cosim.network.experiment import Simulation, SimulationResult, Subject, Work
from mdls_cosim.network.experiment.crew import _packed
from mdls_cosim.network.experiment.units import bench_of, here

NET = """import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.a, self.b = nn.Linear(64, 16), nn.Linear(16, 10)
        self.scale = scale
    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))) * self.scale)
"""
TOML = """runs = 2
images = 60
[model]
factory = "net:Net"
[train]
epochs = 1
learning_rate = 1e-2
[hardware]
rung = "ideal"
adc = { kind = "uniform", bits = 5 }
variability = { effects = [{ effect = "programming_error", relative = 0.02 }] }
tile = { rows = 32, cols = 32 }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "x.toml").write_text(TOML)
    yield tmp_path
    for name in ("net", "part", "measures", "losses", "sets"):
        sys.modules.pop(name, None)


def simulate(folder: Path, *more: str) -> tuple[int, str]:
    """Exit code and everything that was printed."""
    arguments = ["simulate", str(folder / "x.toml"), "--out", str(folder / "out"), "--workers", "1", *more]
    result = CliRunner().invoke(cli.app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, (result.stdout + result.stderr).replace("\u00a0", " ")


def numbers(text: str) -> list[float]:
    found = [re.search(rf"{row}\s+(-?[\d.e+-]+)", text) for row in ("Float network", "Base hardware")]
    return [float(each[1]) for each in found if each is not None]


class TestEditedCode:
    @pytest.fixture
    def ran(self, folder):
        code, text = simulate(folder)
        assert code == 0
        assert "weights of an earlier training" not in text
        return folder

    @pytest.mark.parametrize("more", ["--resume", "--force"])
    def test_is_trained_and_run_anew(self, ran, more):
        (ran / "net.py").write_text(NET.replace("torch.relu(self.a", "torch.sin(4 * self.a"))
        code, text = simulate(ran, more)
        assert code == 0
        assert "weights of an earlier training" not in text
        assert ("have changed since the 3 runs" in text) == (more == "--resume")
        assert "from the journal" not in text
        assert len(list((ran / "out").glob("weights-*"))) == 2
        fresh = SimulationResult.load(ran / "out" / "results.h5").content_hash
        for each in (ran / "out").iterdir():
            if each.is_file():
                each.unlink()
        assert simulate(ran)[0] == 0
        assert SimulationResult.load(ran / "out" / "results.h5").content_hash == fresh

    def test_unchanged_code_is_taken_and_said(self, ran):
        (ran / "net.py").write_text(f"# a comment\n{NET}")
        code, text = simulate(ran, "--force")
        assert code == 0
        (file,) = (ran / "out").glob("weights-*")
        said = " ".join(text.split())
        assert f"weights of an earlier training, of the same code, data and settings: {file}" in said
        assert "3 of them from the journal" in simulate(ran, "--resume")[1]

    def test_a_module_that_it_imports_counts(self, folder):
        (folder / "part.py").write_text("import torch\ndef act(x):\n    return torch.relu(x)\n")
        (folder / "net.py").write_text(NET.replace("torch.relu", "__import__('part').act"))
        keys = []
        for text in ("torch.relu(x)", "torch.tanh(x)", "torch.tanh(x)"):
            (folder / "part.py").write_text(f"import torch\ndef act(x):\n    return {text}\n")
            asked = Simulation.load(folder / "x.toml")
            subject = Subject.load(asked, folder / "out")
            keys.append((subject.hashes["model"], Work(asked, subject).units({})[0][0].key))
        assert keys[1] == keys[2]
        assert all(a != b for a, b in zip(keys[0], keys[1], strict=True))

    def test_a_plain_attribute_counts(self, folder):
        """A value that is in neither the state nor the source: read from a file by the factory."""
        (folder / "net.py").write_text(
            f"{NET}\nimport pathlib\ndef make():\n"
            "    return Net(float(pathlib.Path(__file__).with_name('scale.txt').read_text()))\n"
        )
        (folder / "x.toml").write_text(TOML.replace("net:Net", "net:make"))
        codes = []
        for scale in ("1.0", "2.0"):
            (folder / "scale.txt").write_text(scale)
            subject = Subject.load(Simulation.load(folder / "x.toml"), folder / "out")
            codes.append(subject.hashes["code"])
        assert codes[0] != codes[1]
        assert len(list((folder / "out").glob("weights-*"))) == 2


class TestWorkers:
    def test_import_the_code_of_now(self, folder):
        """A worker that lives on, as one of dask's, takes an edited module anew; one with other files refuses."""
        outputs = []
        for text in (NET, NET.replace("torch.relu", "torch.sin")):
            (folder / "net.py").write_text(text)
            asked = Simulation.load(folder / "x.toml")
            content, token = _packed(Work(asked, Subject.load(asked, None)).bench)
            bench = bench_of(content, token)
            with torch.no_grad():
                outputs.append(bench.model(bench.images))
        assert not torch.equal(*outputs)
        (folder / "net.py").write_text(NET)
        here.benches.clear()
        with pytest.raises(ExecutorError, match=r"other code.*net"):
            bench_of(content, token)


class TestErrorsOfTheUser:
    @pytest.mark.parametrize(
        ("body", "function", "said"),
        [
            ("def missing():\n    import a_package_that_is_not_here\n", "missing", r"ModuleNotFoundError.*net.py:\d+"),
            ("def bad():\n    return {}['key']\n", "bad", r"KeyError: 'key' \(.*net.py:\d+\)"),
            ("def bad():\n    return None.weight\n", "bad", r"AttributeError"),
            ("def bad():\n    return len(3)\n", "bad", r"TypeError"),
            ("def bad():\n    assert False, 'size 224'\n", "bad", r"AssertionError: size 224"),
            ("def bad():\n    raise SystemExit(3)\n", "bad", r"SystemExit: 3"),
            ("def bad():\n    raise Exception\n", "bad", r"Exception \("),
            ("import a_package_that_is_not_here\n", "Net", r"ModuleNotFoundError"),
            ("1 / 0\n", "Net", r"ZeroDivisionError"),
            ("def (\n", "Net", r"SyntaxError.*net.py:\d+"),
            ("def bad(width):\n    return Net()\n", "bad", r"cannot be called so: missing a required argument"),
            ("bad = lambda: Net()\nclass Maker:\n    def __call__(self):\n        return 3\n", "Maker", "no model"),
            ("def make():\n    return Net\n", "make", "no model"),
        ],
    )
    def test_in_the_factory(self, folder, body, function, said):
        (folder / "net.py").write_text(f"{NET}\n{body}")
        (folder / "x.toml").write_text(TOML.replace("net:Net", f"net:{function}"))
        code, text = simulate(folder)
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        assert code == 2
        assert len(lines) == 1
        assert re.search(said, lines[0])
        assert f"net:{function}" in lines[0]
        assert lines[0].count("x.toml") == 1
        assert len(lines[0]) < 400  # the path of the folder is long here
        assert not (folder / "out").exists()

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("assert x.shape[-1] == 224, 'input image size'", "AssertionError: input image size"),
            ("x = self.missing(x)", "AttributeError"),
            ("x = x['pixels']", "IndexError|KeyError"),
            ("x = torch.cat([x, 3])", "TypeError"),
            ("x = x.flatten(1) @ torch.ones(3, 3)", "RuntimeError"),
        ],
    )
    def test_in_forward(self, folder, line, said):
        (folder / "net.py").write_text(NET.replace("        return self.b", f"        {line}\n        return self.b"))
        code, text = simulate(folder)
        error = text.strip().splitlines()[-1]
        assert code == 2
        assert re.search(rf"^error: the network does not take the images: .*({said}).*net.py:9\)", error)
        assert "net:Net" in error
        assert not (folder / "out").exists()

    def test_arguments_that_forward_requires(self, folder):
        """Raised by torch's code, which calls it: there is no line of the user's in the traceback."""
        (folder / "net.py").write_text(NET.replace("def forward(self, x)", "def forward(self, x, *, mask)"))
        code, text = simulate(folder)
        error = text.strip().splitlines()[-1]
        assert code == 2
        assert re.search(r"^error: the network does not take the images: .*TypeError: .*'mask'.*They are 1x8x8", error)

    def test_a_class_a_partial_and_a_lambda_are_factories(self, folder):
        extra = "import functools\nwide = functools.partial(Net, scale=2.0)\nshort = lambda scale=3.0: Net(scale)\n"
        extra += "class Maker:\n    def __call__(self):\n        return Net()\nmaker = Maker()\n"
        (folder / "net.py").write_text(NET + extra)
        for name, scale in (("wide", 2.0), ("short", 3.0), ("maker", 1.0), ("maker.__call__", 1.0)):
            (folder / "x.toml").write_text(TOML.replace("net:Net", f"net:{name}"))
            assert Subject.load(Simulation.load(folder / "x.toml"), None).model.scale == scale


class TestRefusalsComeFirst:
    @pytest.mark.parametrize(
        ("before", "after", "toml", "said"),
        [
            ("nn.Linear(16, 10)", "nn.Bilinear(16, 16, 10)", "", "no form on tiles for b"),
            ("self.b(", "self.b(self.twice(", "", "no form on tiles"),
            ("nn.Linear(16, 10)", "nn.Linear(16, 7)", "", "no classifier of these data.*or more classes"),
            ("nn.Linear(16, 10)", "nn.Linear(16, 1)", "", "no classifier of these data"),
            ("", "", '[rules]\n"*" = "digital"\n', "no layer of the network is on tiles"),
            ("return self.b", "return x, self.b", "", "several outputs.*Choose one"),
        ],
    )
    @pytest.mark.parametrize("more", [(), ("--plan",)], ids=["run", "plan"])
    def test_before_anything_is_trained(self, folder, before, after, toml, said, more):
        text = NET.replace(before, after) if before else NET
        if "Bilinear" in after:
            text = text.replace("return self.b(torch.relu(self.a(x.flatten(1))) * self.scale)",
                                "h = torch.relu(self.a(x.flatten(1)))\n        return self.b(h, h)")  # fmt: skip
        if "twice" in after:
            text = NET.replace("self.scale = scale", "self.scale, self.twice = scale, nn.Bilinear(64, 64, 2)")
        (folder / "net.py").write_text(text)
        (folder / "x.toml").write_text(TOML + toml)
        code, told = simulate(folder, *more)
        assert code == 2
        assert re.search(said, " ".join(told.split()))
        assert "x.toml" in told
        assert not (folder / "out").exists()


class TestMetricsAndOutputs:
    def test_of_a_user_for_a_regression(self, folder):
        """Two outputs, of which one counts; float targets; a loss and a metric of the user's."""
        (folder / "net.py").write_text(
            NET.replace("nn.Linear(64, 16), nn.Linear(16, 10)", "nn.Linear(4, 16), nn.Linear(16, 2)").replace(
                "return self.b(torch.relu(self.a(x.flatten(1))) * self.scale)",
                "h = torch.relu(self.a(x))\n        return {'hidden': h, 'value': self.b(h)}",
            )
        )
        (folder / "sets.py").write_text(
            "import torch\nfrom torch.utils.data import TensorDataset\n"
            "def make(items):\n    x = torch.rand(items, 4, generator=torch.Generator().manual_seed(1))\n"
            "    y = torch.stack([x.sum(1), x[:, 0] - x[:, 1]], 1)\n"
            "    return TensorDataset(x[:80], y[:80]), TensorDataset(x[80:], y[80:])\n"
        )
        (folder / "measures.py").write_text(
            "def rmse(found, right):\n    return (found - right).square().mean().sqrt()\n"
        )
        (folder / "losses.py").write_text("def mse(found, right):\n    return (found - right).square().mean()\n")
        text = TOML.replace("runs = 2\n", 'runs = 2\nmetric = "measures:rmse"\noutput = "value"\n')
        text = text.replace("epochs = 1\n", 'epochs = 30\nloss = "losses:mse"\n')
        (folder / "x.toml").write_text(f'{text}[data]\nfactory = "sets:make"\noptions = {{ items = 120 }}\n')
        code, told = simulate(folder)
        assert code == 0, told
        assert "Test measures:rmse" in told
        assert "%" not in told.split("Layers")[0]
        asked = Simulation.load(folder / "x.toml")
        work = Work(asked, Subject.load(asked, folder / "out"))
        result = SimulationResult.load(folder / "out" / "results.h5")
        with torch.no_grad():
            found = work.subject.model(work.bench.images)["value"]
        expected = float((found - work.bench.labels).square().mean().sqrt())
        assert float(result.base["float_accuracy"].values) == pytest.approx(expected)
        assert expected < 0.5
        model, _ = convert(work.subject.model, work.plan.points[0].hardware, calibration=work.bench.calibration)
        data = work.bench.images, work.bench.labels
        runs = evaluate(model, data, 2, 0, metric=work.subject.metric, output="value").runs
        assert result.base["accuracy"].values.tolist() == list(runs)
        assert result.config["subject"]["code_hash"] == work.subject.hashes["code"]
        first = work.units({})[0][0].key
        (folder / "measures.py").write_text((folder / "measures.py").read_text().replace(".sqrt()", "/ 2"))
        asked = Simulation.load(folder / "x.toml")
        again = Work(asked, Subject.load(asked, folder / "out"))
        assert again.units({})[0][0].key != first
        assert again.subject.weights is not None  # the metric decides no weights, and the loss does
        (folder / "losses.py").write_text("def mse(found, right):\n    return (found - right).abs().mean()\n")
        assert Subject.load(asked, folder / "out").weights is None
        assert CliRunner().invoke(cli.app, ["info", str(folder / "out" / "results.h5")]).exit_code == 0

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ('metric = "measures"', "not the name of a function"),
            ('metric = "measures:none"', "no such function"),
            ('metric = "measures:broken"', r"the metric measures:broken raised KeyError: 'f1'.*measures.py:2"),
            ('metric = "nowhere:rmse"', "no such module"),
            ('output = "value"', "no such output"),
            ("output = 3", "no such output"),
            ("output = 1.5", "output"),
        ],
    )
    def test_mistakes_are_told_before_training(self, folder, key, said):
        (folder / "measures.py").write_text("def broken(found, right):\n    return {}['f1']\n")
        (folder / "x.toml").write_text(f"{key}\n{TOML}")
        code, told = simulate(folder)
        assert code == 2
        assert re.search(said, told)
        assert not (folder / "out").exists()


def test_a_binary_head(folder):
    (folder / "net.py").write_text(NET.replace("nn.Linear(16, 10)", "nn.Linear(16, 1)"))
    inputs = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    labels = np.arange(200) % 2
    inputs[:, :8] += labels[:, None]
    np.savez(folder / "two.npz", train_inputs=inputs[:140], train_labels=labels[:140], test_inputs=inputs[140:],
             test_labels=labels[140:])  # fmt: skip
    text = TOML.replace("epochs = 1", "epochs = 40") + '[data]\nname = "npz"\npath = "two.npz"\n'
    (folder / "x.toml").write_text(text)
    code, told = simulate(folder)
    assert code == 0, told
    assert numbers(told)[0] > 80
    asked = Simulation.load(folder / "x.toml")
    subject = Subject.load(asked, folder / "out")
    with torch.no_grad():
        right = (subject.model(torch.from_numpy(inputs[140:]))[:, 0] > 0).numpy() == labels[140:]
    assert numbers(told)[0] == pytest.approx(100 * right.mean(), abs=0.06)


def test_audit_says_whose_weights(folder):
    assert simulate(folder)[0] == 0
    arguments = ["audit", str(folder / "x.toml"), "--out", str(folder / "out"), "--samples", "2", "--tiles", "1"]
    result = CliRunner().invoke(cli.app, [*arguments, "--injections", "0", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "weights of an earlier training" in result.output
