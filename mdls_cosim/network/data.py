"""Labelled images to train and test on: scikit-learn's digits, CIFAR-10 in its binary version, a user's own `.npz`."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from mdls_cosim.errors import ConfigError, InputError, MdlsError, StoreError, brief
from mdls_cosim.network.batch_forms import Takes
from mdls_cosim.provenance import content_hash
from mdls_cosim.store import Array

DIGITS_SIZE = 8
DIGITS_CLASSES = 10

CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST = "test_batch.bin"
CIFAR_SHAPE = (3, 32, 32)
CIFAR_RECORD = 1 + 3 * 32 * 32
CIFAR_CLASSES = 10
CIFAR_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"

NPZ_KEYS = ("train_inputs", "train_labels", "test_inputs", "test_labels")


@dataclass(frozen=True)
class Normalisation:
    """x' = (x - mean) / std, channel by channel, with the mean and standard deviation of the training inputs."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class LabelledData:
    """Inputs (items, channels, height, width) with their labels (items), in a part to train on and one to test on."""

    name: str
    classes: int
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    normalisation: Normalisation | None = None
    """What was done to the inputs; None: they are as their source has them."""

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """(inputs, labels), as `train` and `calibrate` take them."""
        return self.train_inputs, self.train_labels

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """(inputs, labels), as `evaluate` and `audit` take them."""
        return self.test_inputs, self.test_labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return tuple(self.train_inputs.shape[1:])

    @cached_property
    def content_hash(self) -> str:
        """Of the numbers as they stand here, split and normalisation included; the name is left out."""
        parts = {key: getattr(self, key).cpu().numpy() for key in NPZ_KEYS}
        arrays = {
            key: Array(values, "", ("item", *(f"axis{axis}" for axis in range(1, values.ndim))))
            for key, values in parts.items()
        }
        return content_hash(arrays, {"classes": self.classes})


def labelled(given: Any, name: str) -> LabelledData:
    """What a function of the user's gives, as labelled data.

    Args:
        given: `LabelledData`; a mapping of `NPZ_KEYS`; ((train_inputs, train_labels), (test_inputs, test_labels)) or
            these four in a row, tensors or arrays; or two torch Datasets.
        name: of the function.

    Raises:
        ConfigError: something else, or parts of different lengths.
    """
    if isinstance(given, LabelledData):
        return given
    expected = "LabelledData, or (train_inputs, train_labels), (test_inputs, test_labels)"
    parts: Any = [given[key] for key in NPZ_KEYS] if isinstance(given, Mapping) and set(NPZ_KEYS) <= {*given} else given
    if isinstance(parts, tuple | list) and len(parts) == 2:
        parts = [each for part in parts for each in _pair(part)]
    if not isinstance(parts, tuple | list) or len(parts) != 4:
        raise ConfigError("expected labelled data", where=name, value=type(given).__name__, limit=expected)
    takes = Takes.of(None)
    tensors = [takes.array(each) if place % 2 == 0 else takes.targets(each) for place, each in enumerate(parts)]
    for inputs, labels in (tensors[:2], tensors[2:]):
        if not all(isinstance(each, Tensor) and each.ndim for each in (inputs, labels)) or len(inputs) != len(labels):
            sizes = [tuple(getattr(each, "shape", ())) for each in (inputs, labels)]
            raise ConfigError("expected as many labels as inputs", where=name, value=f"{sizes[0]} and {sizes[1]}")
    whole = all(not each.is_floating_point() for each in tensors[1::2])
    classes = max(int(each.max()) for each in tensors[1::2]) + 1 if whole else 0
    return LabelledData(name, classes, *tensors)


def _pair(part: Any) -> Any:
    """(inputs, labels) of a Dataset, or what is a pair already."""
    if isinstance(part, Dataset) and hasattr(part, "__len__"):
        return next(iter(DataLoader(part, batch_size=len(part))))  # pyright: ignore[reportArgumentType]
    return part


def digits(
    size: int = DIGITS_SIZE,
    seed: int = 0,
    test_share: float = 0.25,
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
) -> LabelledData:
    """scikit-learn's bundled handwritten digits: 1797 images of 8x8 pixels in 0 … 1, one channel, ten classes.

    Args:
        size: pixels along an edge, 8 or more; larger images are interpolated.
        seed: draws the split, which keeps the share of every class.
        test_share: part of the images to test on, between 0 and 1.

    Source: Alpaydin, Kaynak 1998, doi:10.24432/C50P49 (its test part, which scikit-learn brings along).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if isinstance(size, bool) or not isinstance(size, int) or size < DIGITS_SIZE:
        raise ConfigError("digits have 8x8 pixels", where="size", value=size, limit=f"whole numbers from {DIGITS_SIZE}")
    if not isinstance(test_share, float) or not 0 < test_share < 1:
        raise ConfigError("no share of the images", where="test_share", value=test_share, limit="between 0 and 1")
    if interpolation not in ("bilinear", "nearest"):
        raise ConfigError(
            "no such interpolation", where="interpolation", value=interpolation, limit="bilinear, nearest"
        )
    pixels, numbers = load_digits(return_X_y=True)
    images = torch.as_tensor(pixels.reshape(-1, 1, DIGITS_SIZE, DIGITS_SIZE) / 16.0).float()
    labels = torch.as_tensor(numbers).long()
    if size > DIGITS_SIZE:
        align_corners = False if interpolation == "bilinear" else None  # pixels are squares, not points on the edge
        images = functional.interpolate(images, (size, size), mode=interpolation, align_corners=align_corners)
    try:
        kept, tested = train_test_split(range(len(labels)), test_size=test_share, stratify=labels, random_state=seed)
    except ValueError as error:
        raise ConfigError(
            f"the digits cannot be split so ({error})", where="digits", value=f"test_share {test_share:g}, seed {seed}"
        ) from None
    return LabelledData("digits", DIGITS_CLASSES, images[kept], labels[kept], images[tested], labels[tested])


def cifar10(folder: str | os.PathLike[str]) -> LabelledData:
    """CIFAR-10 from its binary version: 60 000 colour images of 32x32 pixels in ten classes.

    The folder holds data_batch_1.bin … data_batch_5.bin (to train) and test_batch.bin: records of one byte for the
    label and 3x32x32 for the red, green and blue pixels. Pixels are scaled to 0 … 1, then normalised per channel by
    the mean and standard deviation of the training images, both exact sums over their 256 values.

    Raises:
        StoreError: missing files, files that are no whole number of records, labels beyond 9; the python version of
            the data, whose files are pickles and can run code: they are never opened.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images", University of Toronto.
    """
    root = Path(folder)
    where = os.fspath(folder)
    if not root.is_dir():
        found = "not a folder" if root.exists() else "no such folder"
        raise StoreError(found, where=where, hint=f"Unpack {CIFAR_SOURCE} and name its folder")
    missing = [name for name in (*CIFAR_TRAIN, CIFAR_TEST) if not (root / name).is_file()]
    if missing:
        pickles = [name for name in (*CIFAR_TRAIN, CIFAR_TEST) if (root / name.removesuffix(".bin")).is_file()]
        if pickles:
            raise StoreError(
                "the python version of CIFAR-10, whose pickles can run code and are not opened",
                where=where,
                limit="the binary version",
                hint=f"Take {CIFAR_SOURCE}",
            )
        inside = next((entry for entry in sorted(root.iterdir()) if (entry / CIFAR_TEST).is_file()), None)
        hint = f"Unpack {CIFAR_SOURCE} and name its folder" if inside is None else f"Did you mean {inside}?"
        raise StoreError(f"missing files of CIFAR-10: {', '.join(missing)}", where=where, hint=hint)
    train = [_cifar_records(root / name) for name in CIFAR_TRAIN]
    train_pixels = np.concatenate([pixels for pixels, _ in train])
    test_pixels, test_labels = _cifar_records(root / CIFAR_TEST)
    normalisation = _of_bytes(train_pixels, where)
    return LabelledData(
        "CIFAR-10",
        CIFAR_CLASSES,
        _normalised_bytes(train_pixels, normalisation),
        torch.from_numpy(np.concatenate([labels for _, labels in train]).astype(np.int64)),
        _normalised_bytes(test_pixels, normalisation),
        torch.from_numpy(test_labels.astype(np.int64)),
        normalisation,
    )


def npz(path: str | os.PathLike[str], normalise: bool = False) -> LabelledData:
    """A user's own data, from a `numpy.savez` file of train_inputs, train_labels, test_inputs and test_labels.

    Inputs are (items, …), alike in both parts, real and finite, and become float32; bytes (uint8) are scaled from
    0 … 255 to 0 … 1. Labels are whole numbers from 0; there are as many classes as the highest says. Other arrays in
    the file are not looked at.

    Args:
        normalise: whether inputs are normalised, per channel (axis 1), by the training inputs' mean and deviation.

    Raises:
        StoreError: no such file, damaged, not `.npz`, or with arrays of Python objects, which can run code.
        InputError: missing arrays, or ones that break the above.
    """
    where = os.fspath(path)
    arrays = _npz_arrays(path, where)
    train_inputs, train_labels = _checked_part(arrays, "train", where)
    test_inputs, test_labels = _checked_part(arrays, "test", where)
    if train_inputs.shape[1:] != test_inputs.shape[1:] or train_inputs.dtype.kind != test_inputs.dtype.kind:
        raise InputError(
            "inputs to train and to test on differ in kind",
            where=where,
            value=f"{train_inputs.dtype}{train_inputs.shape[1:]} and {test_inputs.dtype}{test_inputs.shape[1:]}",
        )
    normalisation = None
    inputs = [_scaled(train_inputs), _scaled(test_inputs)]
    if normalise:
        normalisation = _of_numbers(inputs[0], where)
        inputs = [_normalised(each, normalisation) for each in inputs]
    return LabelledData(
        Path(path).stem,
        int(max(train_labels.max(), test_labels.max())) + 1,
        torch.from_numpy(inputs[0].astype(np.float32)),
        torch.from_numpy(train_labels.astype(np.int64)),
        torch.from_numpy(inputs[1].astype(np.float32)),
        torch.from_numpy(test_labels.astype(np.int64)),
        normalisation,
    )


def _cifar_records(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(pixels as bytes (items, 3, 32, 32), labels) of one file, every record checked."""
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise StoreError(f"cannot be read ({error.strerror})", where=str(path)) from error
    if not content.size or content.size % CIFAR_RECORD:
        raise StoreError(
            "not a whole number of CIFAR-10 records",
            where=str(path),
            value=f"{content.size} bytes",
            limit=f"a multiple of {CIFAR_RECORD}",
            hint=f"Take {CIFAR_SOURCE} again",
        )
    records = content.reshape(-1, CIFAR_RECORD)
    labels = records[:, 0]
    wrong = np.flatnonzero(labels >= CIFAR_CLASSES)
    if wrong.size:
        raise StoreError(
            "a label that CIFAR-10 does not have",
            where=f"{path}, record {wrong[0]}",
            value=int(labels[wrong[0]]),
            limit="0 … 9",
            hint=f"Take {CIFAR_SOURCE} again",
        )
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), labels


_BYTE_VALUES = np.arange(256) / 255.0


def _of_bytes(pixels: np.ndarray, where: str) -> Normalisation:
    """Of images in bytes: from how often each of the 256 values occurs in a channel, so exact at any number."""
    shares = [np.bincount(channel.ravel(), minlength=256) / channel.size for channel in pixels.swapaxes(0, 1)]
    means = [float(share @ _BYTE_VALUES) for share in shares]
    stds = [float(np.sqrt(share @ (_BYTE_VALUES - mean) ** 2)) for share, mean in zip(shares, means, strict=True)]
    return _checked_normalisation(means, stds, where)


def _normalised_bytes(pixels: np.ndarray, normalisation: Normalisation) -> Tensor:
    """Bytes as normalised float32, looked up."""
    images = np.empty(pixels.shape, dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(normalisation.mean, normalisation.std, strict=True)):
        images[:, channel] = ((_BYTE_VALUES - mean) / std).astype(np.float32)[pixels[:, channel]]
    return torch.from_numpy(images)


def _of_numbers(inputs: np.ndarray, where: str) -> Normalisation:
    if inputs.ndim < 2:
        raise InputError("inputs without channels", where=where, value=inputs.shape, limit="(items, channels, …)")
    axes = (0, *range(2, inputs.ndim))
    return _checked_normalisation(inputs.mean(axes).tolist(), inputs.std(axes).tolist(), where)


def _normalised(inputs: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    each = (1, -1, *(1,) * (inputs.ndim - 2))
    return (inputs - np.reshape(normalisation.mean, each)) / np.reshape(normalisation.std, each)


def _checked_normalisation(means: list[float], stds: list[float], where: str) -> Normalisation:
    flat = [channel for channel, std in enumerate(stds) if std == 0]
    if flat:
        raise InputError(
            "a channel of the training data is constant and cannot be normalised",
            where=where,
            value=f"channel {flat[0]}",
        )
    return Normalisation(tuple(means), tuple(stds))


# Deflate makes at most 1032 bytes of one (RFC 1951).
_MOST_DEFLATED = 1100


def _npz_arrays(path: str | os.PathLike[str], where: str) -> dict[str, np.ndarray]:
    """The four arrays of the file; nothing in it is unpickled."""
    if not Path(path).is_file():
        raise StoreError("not a file" if Path(path).exists() else "no such file", where=where, limit="an .npz file")
    try:
        if not zipfile.is_zipfile(path):
            raise StoreError("not an .npz file", where=where, hint="Write it with numpy.savez")
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, where)
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in NPZ_KEYS if key not in file]
            if missing:
                raise InputError(
                    f"missing arrays: {', '.join(missing)}",
                    where=where,
                    value=", ".join(file.files) or "no arrays",
                    limit=", ".join(NPZ_KEYS),
                )
            return {key: file[key] for key in NPZ_KEYS}
    except MdlsError:
        raise
    except Exception as error:  # numpy lets those of zipfile, zlib, tokenize, ast and its own through
        if "pickle" in str(error):
            raise StoreError(
                "arrays of Python objects, whose pickles can run code and are not opened",
                where=where,
                hint="Write numbers: array.astype(numpy.float32)",
            ) from None
        raise StoreError(
            f"cannot be read ({brief(error)})", where=where, hint="Write it again with numpy.savez"
        ) from error


def _check_members(archive: zipfile.ZipFile, where: str) -> None:
    """StoreError where a member is packed otherwise than numpy does, encrypted, or claims an impossible size."""
    for member in archive.infolist():
        if member.flag_bits & 1:
            raise StoreError(
                "an encrypted array", where=f"{where}, {member.filename}", hint="Write it with numpy.savez"
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise StoreError(
                "packed by another method than numpy's",
                where=f"{where}, {member.filename}",
                limit="stored or deflated",
                hint="Write it with numpy.savez or numpy.savez_compressed",
            )
        most = member.compress_size * _MOST_DEFLATED + _MOST_DEFLATED
        if member.file_size > most:
            raise StoreError(
                "an array claims more bytes than its packed ones can hold",
                where=f"{where}, {member.filename}",
                value=member.file_size,
                limit=most,
            )
        if member.filename in (f"{key}.npy" for key in NPZ_KEYS):
            _check_header(archive, member, where)


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> None:
    """StoreError where the shape of an array claims more numbers than the member holds; numpy makes room for them."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > member.file_size and not dtype.hasobject:
        raise StoreError(
            "an array claims more numbers than the file holds",
            where=f"{where}, {member.filename}",
            value=f"{claimed} bytes",
            limit=f"{member.file_size} bytes",
        )


def _checked_part(arrays: dict[str, np.ndarray], part: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, labels) of one part."""
    inputs, labels = arrays[f"{part}_inputs"], arrays[f"{part}_labels"]
    if inputs.ndim < 2 or not len(inputs):
        raise InputError("no items", where=f"{where}, {part}_inputs", value=inputs.shape, limit="(items, …)")
    if inputs.dtype.kind != "f" and inputs.dtype != np.uint8:
        raise InputError(
            "inputs of an unknown scale",
            where=f"{where}, {part}_inputs",
            value=str(inputs.dtype),
            limit="floats, or bytes (uint8), which are divided by 255",
        )
    if inputs.dtype.kind == "f" and not (np.abs(inputs) <= np.finfo(np.float32).max).all():
        raise InputError("NaN, infinity or beyond float32", where=f"{where}, {part}_inputs", limit="finite numbers")
    if labels.dtype.kind not in "iu" or labels.shape != inputs.shape[:1]:
        raise InputError(
            "not one whole number an item",
            where=f"{where}, {part}_labels",
            value=f"{labels.dtype}{labels.shape}",
            limit=f"integers {inputs.shape[:1]}",
        )
    if labels.min() < 0:
        raise InputError(
            "a negative label", where=f"{where}, {part}_labels", value=int(labels.min()), limit="0 or more"
        )
    return inputs, labels


def _scaled(inputs: np.ndarray) -> np.ndarray:
    return inputs / 255.0 if inputs.dtype == np.uint8 else inputs.astype(np.float64)
