"""Data to train and test on. The files of CIFAR-10 are written here, small, in its format."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mdls_cosim.errors import ConfigError, InputError, StoreError
from mdls_cosim.network.data import cifar10, digits, npz

TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


class TestDigits:
    def test_split_is_scikit_learns(self):
        pixels, labels = load_digits(return_X_y=True)
        kept, tested = train_test_split(range(len(labels)), test_size=0.25, stratify=labels, random_state=3)
        data = digits(seed=3)
        assert data.shape == (1, 8, 8)
        assert (data.name, data.classes, data.normalisation) == ("digits", 10, None)
        assert np.array_equal(data.train_inputs.flatten(1).numpy() * 16, pixels[kept])
        assert np.array_equal(data.test[0].flatten(1).numpy() * 16, pixels[tested])
        assert data.train[1].tolist() == labels[kept].tolist()
        assert data.test[1].tolist() == labels[tested].tolist()
        assert data.train_inputs.dtype is torch.float32
        assert data.train_labels.dtype is torch.int64

    def test_every_class_keeps_its_share(self):
        data = digits(test_share=0.1, seed=1)
        assert len(data.test_labels) == 180
        counts = torch.bincount(torch.cat([data.train_labels, data.test_labels]))
        assert ((torch.bincount(data.test_labels) - 0.1 * counts).abs() <= 1).all()

    def test_nearest_repeats_pixels(self):
        small, large = digits(), digits(32, interpolation="nearest")
        assert torch.equal(large.test_inputs, small.test_inputs.repeat_interleave(4, 2).repeat_interleave(4, 3))
        assert torch.equal(large.test_labels, small.test_labels)

    def test_bilinear_by_hand(self):
        """Doubled: a new pixel lies a quarter of an old one from the middle of the nearest, at the edge beyond it."""
        small, large = digits(), digits(16)
        row = small.test_inputs[0, 0]
        expected = 0.75 * (0.75 * row[2, 3] + 0.25 * row[2, 4]) + 0.25 * (0.75 * row[3, 3] + 0.25 * row[3, 4])
        assert large.test_inputs[0, 0, 5, 7] == pytest.approx(float(expected), abs=1e-6)
        assert torch.equal(large.test_inputs[:, 0, ::15, ::15], small.test_inputs[:, 0, ::7, ::7])
        assert digits(19).shape == (1, 19, 19)

    def test_hash_is_of_the_content(self):
        first = digits().content_hash
        assert first.startswith("sha256:")
        assert digits().content_hash == first
        others = [digits(seed=1), digits(16), digits(16, interpolation="nearest"), digits(test_share=0.2)]
        assert len({first, *(each.content_hash for each in others)}) == 5

    @pytest.mark.parametrize(
        "options",
        [{"size": 7}, {"size": 8.5}, {"test_share": 0.0}, {"test_share": 1}, {"interpolation": "cubic"}],
    )
    def test_impossible_values(self, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            digits(**options)

    def test_too_few_to_test_on(self):
        with pytest.raises(ConfigError, match=r"cannot be split so.*test_share 0\.001"):
            digits(test_share=0.001)


class TestCifar10:
    @pytest.fixture
    def records(self):
        """By file: (labels, pixels (items, 3, 32, 32)); each channel of its own brightness."""
        generator = np.random.default_rng(0)
        highest = np.array([256, 200, 60])[:, None, None]
        return {
            name: (generator.integers(0, 10, count), generator.integers(0, highest, (count, 3, 32, 32)))
            for name, count in zip([*TRAIN, "test_batch.bin"], [4, 3, 5, 2, 1, 6], strict=True)
        }

    @pytest.fixture
    def folder(self, tmp_path, records):
        folder = tmp_path / "cifar-10-batches-bin"
        folder.mkdir()
        for name, (labels, pixels) in records.items():
            with open(folder / name, "wb") as file:
                for label, image in zip(labels, pixels, strict=True):
                    file.write(bytes([label]))
                    for channel in image:  # red, green, blue; each row by row
                        file.write(bytes(channel.ravel().tolist()))
        return folder

    def test_reads_what_was_written(self, folder, records):
        data = cifar10(folder)
        assert (data.name, data.classes, data.shape) == ("CIFAR-10", 10, (3, 32, 32))
        pixels = np.concatenate([records[name][1] for name in TRAIN]) / 255
        mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
        assert data.normalisation is not None
        assert data.normalisation.mean == pytest.approx(mean, rel=1e-12)
        assert data.normalisation.std == pytest.approx(std, rel=1e-12)
        each = np.s_[None, :, None, None]
        np.testing.assert_allclose(data.train_inputs.numpy(), (pixels - mean[each]) / std[each], atol=1e-6)
        tested = records["test_batch.bin"][1] / 255
        np.testing.assert_allclose(data.test_inputs.numpy(), (tested - mean[each]) / std[each], atol=1e-6)
        assert data.train_labels.tolist() == np.concatenate([records[name][0] for name in TRAIN]).tolist()
        assert data.test_labels.tolist() == records["test_batch.bin"][0].tolist()
        assert data.train_inputs.dtype is torch.float32
        assert data.train_labels.dtype is torch.int64

    def test_training_data_is_normalised_and_test_data_is_not_looked_at(self, folder, records):
        inputs = cifar10(folder).train_inputs.double()
        assert inputs.mean((0, 2, 3)).abs().max() < 1e-6
        assert (inputs.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6
        (folder / "test_batch.bin").write_bytes(bytes([1]) + bytes([255] * 3072))
        assert torch.equal(cifar10(folder).train_inputs.double(), inputs)

    @pytest.mark.parametrize("change", [-1, 1, -3072])
    def test_a_file_of_another_length(self, folder, change):
        path = folder / "data_batch_3.bin"
        content = path.read_bytes()
        path.write_bytes(content[:change] if change < 0 else content + bytes(change))
        with pytest.raises(
            StoreError, match=rf"data_batch_3\.bin: got \"{5 * 3073 + change} bytes\".*multiple of 3073"
        ):
            cifar10(folder)

    def test_an_empty_file(self, folder):
        (folder / "test_batch.bin").write_bytes(b"")
        with pytest.raises(StoreError, match=r"test_batch\.bin"):
            cifar10(folder)

    def test_a_label_that_is_none(self, folder):
        path = folder / "data_batch_2.bin"
        content = bytearray(path.read_bytes())
        content[2 * 3073] = 10
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"data_batch_2\.bin, record 2: got 10, allowed 0 … 9"):
            cifar10(folder)

    def test_missing_files_are_named(self, folder):
        (folder / "data_batch_2.bin").unlink()
        (folder / "data_batch_4.bin").unlink()
        with pytest.raises(
            StoreError, match=r"missing files.*data_batch_2\.bin, data_batch_4\.bin at.*cifar-10-binary"
        ):
            cifar10(folder)

    def test_a_folder_above_it(self, folder):
        with pytest.raises(StoreError, match=r"Did you mean .*cifar-10-batches-bin\?"):
            cifar10(folder.parent)

    def test_no_folder(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        for name in ("nowhere", "file"):
            with pytest.raises(StoreError, match=r"folder.*cifar-10-binary"):
                cifar10(tmp_path / name)

    def test_python_version_is_not_opened(self, tmp_path):
        for name in [*TRAIN, "test_batch.bin"]:
            (tmp_path / name.removesuffix(".bin")).write_bytes(pickle.dumps(RunsCode(tmp_path / "mark")))
        with pytest.raises(StoreError, match=r"python version.*allowed the binary version.*cifar-10-binary\.tar\.gz"):
            cifar10(tmp_path)
        assert not (tmp_path / "mark").exists()

    def test_a_channel_without_contrast(self, folder):
        for name in TRAIN:
            (folder / name).write_bytes(bytes([3]) + bytes(range(256)) * 8 + bytes([7] * 1024))
        with pytest.raises(InputError, match=r"constant.*channel 2"):
            cifar10(folder)


class TestNpz:
    @pytest.fixture
    def arrays(self):
        generator = np.random.default_rng(1)
        return {
            "train_inputs": generator.normal(3.0, 2.0, (12, 2, 5, 4)),
            "train_labels": np.arange(12) % 4,
            "test_inputs": generator.normal(3.0, 2.0, (5, 2, 5, 4)),
            "test_labels": np.array([0, 4, 1, 2, 3], dtype=np.uint8),
        }

    @pytest.fixture
    def write(self, tmp_path, arrays):
        def write(**changes):
            path = tmp_path / "measured.npz"
            np.savez_compressed(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
            return path

        return write

    def test_reads_what_was_written(self, write, arrays):
        data = npz(write(notes=np.arange(3)))
        assert (data.name, data.classes, data.shape, data.normalisation) == ("measured", 5, (2, 5, 4), None)
        for key, values in arrays.items():
            read = getattr(data, key)
            assert read.dtype is (torch.int64 if "labels" in key else torch.float32)
            assert np.array_equal(read.numpy(), values.astype(read.numpy().dtype))

    def test_normalised_by_the_training_part(self, write, arrays):
        data = npz(write(), normalise=True)
        inputs = arrays["train_inputs"]
        assert data.train_inputs.double().mean((0, 2, 3)).abs().max() < 1e-6
        assert data.normalisation is not None
        assert data.normalisation.std == pytest.approx(inputs.std((0, 2, 3)))
        expected = (arrays["test_inputs"][:, 1] - inputs[:, 1].mean()) / inputs[:, 1].std()
        np.testing.assert_allclose(data.test_inputs[:, 1].numpy(), expected, atol=1e-6)

    def test_bytes_become_shares(self, write):
        images = np.arange(24, dtype=np.uint8).reshape(12, 2)
        data = npz(write(train_inputs=images, test_inputs=images[:5]))
        assert np.array_equal(data.train_inputs.numpy(), (images / 255).astype(np.float32))

    def test_hash_tells_data_apart(self, write, arrays):
        first = npz(write()).content_hash
        assert npz(write()).content_hash == first
        changed = arrays["test_inputs"].copy()
        changed[-1, -1, -1, -1] += 1e-3
        assert npz(write(test_inputs=changed)).content_hash != first

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"train_labels": None, "test_labels": None}, r"missing arrays: train_labels, test_labels"),
            ({"train_inputs": np.zeros((12, 2), complex)}, r"unknown scale.*train_inputs: got \"complex128\""),
            ({"train_inputs": np.zeros((12, 2), int)}, r"unknown scale.*uint8"),
            ({"train_inputs": np.zeros(12)}, r"no items.*train_inputs"),
            ({"test_inputs": np.zeros((0, 2, 5, 4)), "test_labels": np.zeros(0, int)}, r"no items.*test_inputs"),
            ({"test_inputs": np.full((5, 2, 5, 4), np.nan)}, r"NaN.*test_inputs"),
            ({"test_inputs": np.full((5, 2, 5, 4), -1e39)}, r"beyond float32.*test_inputs"),
            ({"test_inputs": np.zeros((5, 2, 4, 5))}, r"differ in kind"),
            ({"test_inputs": np.zeros((5, 2, 5, 4), np.uint8)}, r"differ in kind"),
            ({"test_labels": np.zeros(5)}, r"whole number.*test_labels: got \"float64\(5,\)\""),
            ({"test_labels": np.zeros(4, int)}, r"whole number.*test_labels"),
            ({"train_labels": np.full(12, -1)}, r"negative label.*train_labels: got -1"),
        ],
    )
    def test_arrays_that_cannot_be(self, write, changes, message):
        with pytest.raises(InputError, match=message):
            npz(write(**changes))

    def test_constant_channel_is_not_normalised(self, write):
        path = write(train_inputs=np.ones((12, 2, 5, 4)))
        assert npz(path).train_inputs.eq(1).all()
        with pytest.raises(InputError, match=r"constant.*channel 0"):
            npz(path, normalise=True)

    def test_objects_are_not_unpickled(self, write, tmp_path):
        hostile = np.array([RunsCode(tmp_path / "mark")] * 12, dtype=object)
        with pytest.raises(StoreError, match=r"can run code and are not opened"):
            npz(write(train_labels=hostile))
        assert not (tmp_path / "mark").exists()

    def test_files_that_are_none(self, tmp_path):
        pickled = tmp_path / "pickled.npz"
        pickled.write_bytes(pickle.dumps(RunsCode(tmp_path / "mark")))
        single = tmp_path / "single.npz"
        with open(single, "wb") as file:
            np.save(file, np.zeros(3))
        for path in (pickled, single):
            with pytest.raises(StoreError, match=r"not an \.npz file"):
                npz(path)
        assert not (tmp_path / "mark").exists()
        with pytest.raises(StoreError, match=r"no such file"):
            npz(tmp_path / "nowhere.npz")
        with pytest.raises(StoreError, match=r"not a file"):
            npz(tmp_path)

    def test_damage_is_seen(self, write):
        path = write()
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as file:
            start = file.getinfo("train_inputs.npy").header_offset + 400
        content[start] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"cannot be read"):
            npz(path)

    def test_members_that_numpy_did_not_pack(self, write):
        path = write()
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
            for name, content in members.items():
                file.writestr(name, content)
        with pytest.raises(StoreError, match="packed by another method"):
            npz(path)
        write()
        content = bytearray(path.read_bytes())
        content[content.find(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
        with pytest.raises(StoreError, match="an encrypted array"):
            npz(path)

    def test_a_claim_of_more_than_fits_in_memory(self, write, tmp_path):
        path = write(train_inputs=None)
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000), }"
        header = header.ljust(128 - 10 - 1) + b"\n"
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("train_inputs.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        with pytest.raises(StoreError, match="claims more numbers than the file holds"):
            npz(path)
