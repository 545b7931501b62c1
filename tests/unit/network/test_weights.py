"""Weights to and from files."""

import copy
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

from mdls_cosim.errors import InputError, NotAvailable, StoreError
from mdls_cosim.network.weights import load_weights, save_weights
from mdls_cosim.network.zoo import model


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def net(seed: int = 0, **options) -> nn.Module:
    return model("vgg8", channels=1, size=8, seed=seed, **{"width": 3, "hidden": 8} | options)


def same(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


@pytest.fixture
def trained():
    """Different from a fresh one in its buffers too."""
    made = net(seed=1)
    made(torch.rand(5, 1, 8, 8))
    return made


class TestRoundTrip:
    def test_own_files(self, trained, tmp_path):
        path = tmp_path / "weights.safetensors"
        written = save_weights(trained, path, config={"model": "vgg8", "epochs": 3}, seed=7, parents=["sha256:data"])
        other = net()
        read = load_weights(other, path)
        assert same(other, trained)
        assert read == written
        assert (read.seed, read.parents, read.config) == (7, ("sha256:data",), {"model": "vgg8", "epochs": 3})
        assert read.tools["torch"] == torch.__version__.split("+")[0] or read.tools["torch"] == torch.__version__
        assert "safetensors" in read.tools
        assert [each.name for each in tmp_path.iterdir()] == ["weights.safetensors"]

    def test_others_can_read_it(self, trained, tmp_path):
        save_weights(trained, tmp_path / "weights.safetensors")
        state = safetensors.torch.load_file(tmp_path / "weights.safetensors")
        assert all(torch.equal(state[name], tensor) for name, tensor in trained.state_dict().items())

    def test_same_weights_have_the_same_hash(self, trained, tmp_path):
        hashes = [save_weights(each, tmp_path / "weights").content_hash for each in (trained, copy.deepcopy(trained))]
        assert hashes[0] == hashes[1] != save_weights(net(), tmp_path / "weights").content_hash

    def test_safetensors_of_others(self, trained, tmp_path):
        safetensors.torch.save_file(trained.state_dict(), tmp_path / "weights.bin")  # told by content, not by name
        other = net()
        assert load_weights(other, tmp_path / "weights.bin") is None
        assert same(other, trained)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_torchs_state_dict(self, trained, tmp_path, zipped):
        torch.save(trained.state_dict(), tmp_path / "weights.pt", _use_new_zipfile_serialization=zipped)
        other = net()
        assert load_weights(other, tmp_path / "weights.pt") is None
        assert same(other, trained)

    def test_a_layer_under_two_names(self, classifier, tmp_path):
        """`hidden` and `again` are one layer."""
        save_weights(classifier, tmp_path / "weights")
        other = copy.deepcopy(classifier)
        nn.init.zeros_(other.hidden.weight)
        load_weights(other, tmp_path / "weights")
        assert same(other, classifier)
        assert other.hidden is other.again

    def test_views_and_other_dtypes(self, tmp_path):
        made = nn.Linear(4, 3).to(torch.bfloat16)
        made.weight = nn.Parameter(torch.randn(4, 3).to(torch.bfloat16).T)  # not contiguous
        save_weights(made, tmp_path / "weights")
        other = nn.Linear(4, 3)
        load_weights(other, tmp_path / "weights")
        assert other.weight.dtype is torch.float32
        assert torch.equal(other.weight, made.weight.float())

    def test_through_a_link(self, trained, tmp_path):
        save_weights(net(), tmp_path / "weights")
        (tmp_path / "latest").symlink_to("weights")
        save_weights(trained, tmp_path / "latest")
        assert (tmp_path / "latest").is_symlink()
        other = net()
        load_weights(other, tmp_path / "weights")
        assert same(other, trained)


class TestMismatch:
    def test_everything_is_told_and_nothing_is_loaded(self, trained, tmp_path):
        state = dict(trained.state_dict())
        del state["conv3.bias"], state["norm4.running_mean"]
        state["extra.weight"] = torch.zeros(2)
        state["head.weight"] = state["head.weight"][:, :7].contiguous()
        state["norm2.num_batches_tracked"] = torch.tensor(1.0)
        safetensors.torch.save_file(state, tmp_path / "weights")
        other = net()
        before = copy.deepcopy(other)
        with pytest.raises(InputError) as error:
            load_weights(other, tmp_path / "weights")
        assert len(str(error.value)) <= 300
        message = f"{error.value.what} at {error.value.where}"  # whole
        assert "2 missing: conv3.bias, norm4.running_mean;" in message
        assert "1 unexpected: extra.weight;" in message
        assert "1 of another shape: head.weight (10, 7) for (10, 8)" in message
        assert "1 of another kind: norm2.num_batches_tracked torch.float32 for torch.int64" in message
        assert str(tmp_path / "weights") in message
        assert same(other, before)

    def test_long_lists_are_cut(self, trained, tmp_path):
        save_weights(trained, tmp_path / "weights")
        with pytest.raises(InputError, match=r"31 unexpected: conv1\.bias, conv1\.weight, .* and 26 more"):
            load_weights(nn.Linear(2, 2), tmp_path / "weights")

    @pytest.mark.parametrize("value", [float("nan"), float("-inf")])
    def test_numbers_that_are_none(self, trained, tmp_path, value):
        with torch.no_grad():
            trained.conv2.weight[0, 0, 0, 0] = value
        save_weights(trained, tmp_path / "weights")
        with pytest.raises(InputError, match=r"NaN or infinite.*conv2\.weight"):
            load_weights(net(), tmp_path / "weights")


class TestHostileFiles:
    @pytest.fixture
    def mark(self, tmp_path):
        yield tmp_path / "mark"
        assert not (tmp_path / "mark").exists(), "code was run"

    def test_the_mark_is_made_where_code_is_run(self, tmp_path):
        pickle.loads(pickle.dumps(RunsCode(tmp_path / "mark")))
        assert (tmp_path / "mark").exists()

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_a_pickle(self, mark, tmp_path, protocol):
        (tmp_path / "weights.pt").write_bytes(pickle.dumps(RunsCode(mark), protocol))
        with pytest.raises(StoreError, match=r"may run code"):
            load_weights(net(), tmp_path / "weights.pt")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_beside_the_tensors(self, trained, mark, tmp_path, zipped):
        state = dict(trained.state_dict()) | {"conv1.weight": RunsCode(mark)}
        torch.save(state, tmp_path / "weights.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(StoreError, match=r"may run code"):
            load_weights(net(), tmp_path / "weights.pt")

    def test_a_whole_model(self, trained, tmp_path):
        torch.save(trained, tmp_path / "model.pt")
        with pytest.raises(StoreError, match=r"Save model\.state_dict\(\)"):
            load_weights(net(), tmp_path / "model.pt")

    def test_a_zip_of_something_else(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "weights.pt", "w") as file:
            file.writestr("notes.txt", "no weights")
        with pytest.raises(StoreError, match=r"cannot be read"):
            load_weights(net(), tmp_path / "weights.pt")


class TestFiles:
    def test_a_checkpoint_around_the_weights(self, trained, tmp_path):
        torch.save({"state_dict": trained.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pt")
        with pytest.raises(StoreError, match=r"something around it.*state_dict, epoch.*Save model\.state_dict"):
            load_weights(net(), tmp_path / "checkpoint.pt")

    @pytest.mark.parametrize("content", [b"", b"text", b"\x80", b"PK\x03\x04", b"\x10\0\0\0\0\0\0\0{", bytes(100)])
    def test_no_weights(self, tmp_path, content):
        (tmp_path / "weights").write_bytes(content)
        with pytest.raises(StoreError, match=r"weights"):
            load_weights(net(), tmp_path / "weights")

    def test_no_file(self, tmp_path):
        with pytest.raises(StoreError, match=r"no such file"):
            load_weights(net(), tmp_path / "nowhere")
        with pytest.raises(StoreError, match=r"not a file"):
            load_weights(net(), tmp_path)

    @pytest.mark.parametrize("kept", [5, 100, -1])
    def test_cut_off(self, trained, tmp_path, kept):
        save_weights(trained, tmp_path / "weights")
        content = (tmp_path / "weights").read_bytes()
        (tmp_path / "weights").write_bytes(content[:kept])
        with pytest.raises(StoreError, match=r"cannot be read|may run code"):
            load_weights(net(), tmp_path / "weights")

    def test_altered(self, trained, tmp_path):
        save_weights(trained, tmp_path / "weights")
        content = bytearray((tmp_path / "weights").read_bytes())
        content[-1] ^= 0x01
        (tmp_path / "weights").write_bytes(content)
        with pytest.raises(StoreError, match=r"altered"):
            load_weights(net(), tmp_path / "weights")

    def test_nowhere_to_write(self, trained, tmp_path):
        with pytest.raises(StoreError, match=r"cannot be written"):
            save_weights(trained, tmp_path / "nowhere" / "weights")
        with pytest.raises(StoreError, match=r"cannot be written"):
            save_weights(trained, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_state_that_is_no_tensor(self, tmp_path):
        class Noted(nn.Linear):
            def get_extra_state(self):
                return "a note"

        with pytest.raises(NotAvailable, match=r"_extra_state"):
            save_weights(Noted(2, 2), tmp_path / "weights")
        assert list(tmp_path.iterdir()) == []
