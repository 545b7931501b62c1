"""HDF5 files that are whole or not there, and that tell when they were touched.

Format, version 1. A file is 512 bytes of ASCII header (HDF5's user block, which every HDF5 reader skips) and an HDF5
file. The header is three lines, then line ends up to byte 512:

    mdls_cosim store 1
    bytes N             length of the HDF5 part
    sha256 H            of the HDF5 part

In the HDF5 part every group carries the text attributes `encoding-type`, `encoding-version` (numbers joined by
dots) and `attributes` (a JSON object); every array is little-endian, carries `units` (text) and `dims` (one name
an axis) and is compressed (shuffle and deflate, HDF5's own) where it is not small. Links that lead elsewhere, arrays
whose numbers lie in other files, other filters, objects linked twice and claims of more numbers than the file can hold
are refused; nothing in a file is code. docs/format.md is the specification.

The checksum is over the bytes, not over the values, so that nothing of a damaged file reaches the HDF5 library, which
can crash on one.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from mdls_cosim.errors import InputError, StoreError, brief
from mdls_cosim.provenance import canonical_json, json_value, little_endian, parse_json

if TYPE_CHECKING:
    import h5py

_HEADER_LENGTH = 512
_FORMAT = 1
_HEADER_START = b"mdls_cosim store "
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Bytes from which an array is compressed: below, the chunk's own bookkeeping costs more than deflate gains.
_COMPRESSED = 4096
# Deflate makes a byte of at most 1032 (RFC 1951).
_MOST_DEFLATED = 1100
# Chunks up to this size may be larger than their array [bytes].
_SMALLEST_CHUNK = 2**20
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,8}")
_WRITE_AGAIN = "Write it again, or take a copy that is whole"


@dataclass(frozen=True, eq=False)
class Array:
    """Numbers with their `units` ("S", "V", "" where there is none) and one name an axis in `dims`."""

    values: np.ndarray
    units: str
    dims: tuple[str, ...]

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        numeric = values.dtype.kind in "biu" or values.dtype.str[1:] in ("f2", "f4", "f8", "c8", "c16")
        if not numeric:
            raise InputError(
                "an array that no file holds", value=str(values.dtype), limit="booleans, integers, floats, complex"
            )
        dims = (self.dims,) if isinstance(self.dims, str) else tuple(self.dims)
        if len(dims) != values.ndim:
            raise InputError("one name an axis is needed", where="dims", value=dims, limit=f"{values.ndim} names")
        if not isinstance(self.units, str) or not all(isinstance(name, str) and name for name in dims):
            raise InputError("units and dims must be text", value=(self.units, dims))
        object.__setattr__(self, "values", np.asarray(values, dtype=values.dtype.newbyteorder("=")))
        object.__setattr__(self, "dims", dims)

    def __eq__(self, other: object) -> bool:
        """Same units, dims, dtype and values; NaN equals NaN."""
        if not isinstance(other, Array):
            return NotImplemented
        return (
            (self.units, self.dims, self.values.dtype) == (other.units, other.dims, other.values.dtype)
            and self.values.shape == other.values.shape
            and np.array_equal(self.values, other.values, equal_nan=self.values.dtype.kind in "fc")
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # its values can be changed in place


@dataclass(frozen=True)
class Group:
    """What a file, or a part of one, holds: typed and versioned attributes, arrays and further groups."""

    encoding_type: str
    encoding_version: str
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.encoding_type or not _VERSION.fullmatch(self.encoding_version):
            raise InputError(
                "a group needs a type and a version",
                value=(self.encoding_type, self.encoding_version),
                limit='a version like "1" or "1.2"',
            )
        for name in (*self.arrays, *self.groups):
            if not isinstance(name, str) or not name or "/" in name or "\0" in name or name in (".", ".."):
                raise InputError("not a name for an array or group", value=name, limit='text without "/"')
        if both := self.arrays.keys() & self.groups.keys():
            raise InputError("an array and a group of one name", value=sorted(both))
        object.__setattr__(self, "attributes", json_value(self.attributes, "attributes"))

    def require(self, encoding_type: str, newest_version: str, where: str) -> None:
        """StoreError unless this is an `encoding_type` of at most `newest_version`; `where` is its file."""
        if self.encoding_type != encoding_type:
            raise StoreError(
                "the wrong kind of file",
                where=where,
                value=self.encoding_type,
                limit=encoding_type,
                hint="`mdls-cosim info` tells what a file holds",
            )
        if _version_key(self.encoding_version) > _version_key(newest_version):
            raise StoreError(
                f"{encoding_type} of a newer version",
                where=where,
                value=self.encoding_version,
                limit=f"up to {newest_version}",
                hint="Read it with a newer mdls_cosim",
            )


def write(path: str | os.PathLike[str], group: Group) -> None:
    """Write `group` to `path`, whole or not at all: a failure leaves what was there before and nothing else.

    Errors: StoreError where the file cannot be written.
    """
    import h5py

    where = os.fspath(path)
    target = Path(os.path.realpath(path))  # through a link, or the link itself would be replaced
    if target.is_dir():
        raise StoreError("cannot write a file over a folder", where=where, hint="Name a file in it")
    if not target.parent.is_dir():
        raise StoreError("cannot write into a folder that does not exist", where=where, hint=f"Create {target.parent}")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "x+b") as stream:
            # Version 1.8 of the format: the oldest whose attributes may exceed 64 KiB. Without a cache of chunks a full
            # disk is an error where it is met, and none at the end that nobody can catch.
            with h5py.File(stream, "w", userblock_size=_HEADER_LENGTH, libver=("v108", "v110"), rdcc_nbytes=0) as file:
                _write_group(file, group)
            stream.seek(0)
            stream.write(_header(*_length_and_digest(stream)))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except (OSError, RuntimeError, ValueError) as error:  # the last two are how h5py passes some of the first on
        raise StoreError(f"cannot be written ({error})", where=where) from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def read(path: str | os.PathLike[str], expected_type: str | None = None, newest_version: str | None = None) -> Group:
    """What the file at `path` holds, its checksum verified.

    `expected_type` and `newest_version` say what the caller can take (the version only with the type). Errors:
    StoreError where the file is missing, no file, not ours, cut off, altered, newer, or of another type.
    """
    import h5py

    where = os.fspath(path)
    try:
        if not Path(path).is_file():
            found = "not a file" if Path(path).exists() else "no such file"
            raise StoreError(found, where=where, limit="an HDF5 file written by mdls_cosim")
        with open(path, "rb") as stream:
            _check_bytes(stream, where)
            size = os.fstat(stream.fileno()).st_size
            with h5py.File(stream, "r") as file:
                group = _Reader(size).group(file)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise StoreError(f"cannot be read ({brief(error)})", where=where, hint=_WRITE_AGAIN) from error
    if expected_type is not None:
        group.require(expected_type, newest_version or group.encoding_version, where)
    return group


def _header(length: int, digest: str) -> bytes:
    text = b"%s%d\nbytes %d\nsha256 %s\n" % (_HEADER_START, _FORMAT, length, digest.encode())
    return text.ljust(_HEADER_LENGTH, b"\n")


def _length_and_digest(stream: BinaryIO) -> tuple[int, str]:
    """Length and SHA-256 of what follows the header; leaves the stream at its start."""
    length = max(stream.seek(0, os.SEEK_END) - _HEADER_LENGTH, 0)
    stream.seek(_HEADER_LENGTH)
    digest = hashlib.file_digest(stream, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
    stream.seek(0)
    return length, digest


def _check_bytes(stream: BinaryIO, where: str) -> None:
    """StoreError unless the file is, byte for byte, as it was written."""
    length, digest = _length_and_digest(stream)
    header = stream.read(_HEADER_LENGTH)
    if header == _header(length, digest):
        return
    if not header:
        raise StoreError("an empty file", where=where, hint=_WRITE_AGAIN)
    if not header.startswith(_HEADER_START[: len(header)]):
        if header.startswith(_HDF5_SIGNATURE) or stream.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE:
            found = "an HDF5 file that mdls_cosim did not write, or altered at its start"
        else:
            found = "not an HDF5 file"
        raise StoreError(found, where=where, limit="an HDF5 file written by mdls_cosim")
    told = re.match(rb"%s(\d+)\nbytes (\d+)\n" % _HEADER_START, header)
    if told and int(told[1]) > _FORMAT:
        raise StoreError(
            "a file of a newer format",
            where=where,
            value=int(told[1]),
            limit=f"up to {_FORMAT}",
            hint="Read it with a newer mdls_cosim",
        )
    if len(header) < _HEADER_LENGTH or (told and length < int(told[2])):
        whole = f"{_HEADER_LENGTH + int(told[2])} bytes" if told else None
        raise StoreError("a truncated file", where=where, value=len(header) + length, limit=whole, hint=_WRITE_AGAIN)
    raise StoreError("altered since it was written (its checksum does not match)", where=where, hint=_WRITE_AGAIN)


def _write_group(target: h5py.Group, group: Group) -> None:
    import h5py

    target.attrs["encoding-type"] = group.encoding_type
    target.attrs["encoding-version"] = group.encoding_version
    target.attrs["attributes"] = canonical_json(group.attributes)
    for name, array in sorted(group.arrays.items()):
        values = np.asarray(array.values, dtype=little_endian(array.values.dtype))
        compressed = {"compression": "gzip", "shuffle": True} if values.nbytes >= _COMPRESSED else {}
        dataset = target.create_dataset(name, data=values, track_times=False, **compressed)
        dataset.attrs["units"] = array.units
        dataset.attrs["dims"] = np.array(array.dims, dtype=h5py.string_dtype())
    for name, part in sorted(group.groups.items()):
        _write_group(target.create_group(name), part)


class _Reader:
    """Reads the groups of one file of `size` bytes, each object once.

    Hard links may join groups in many ways: without that rule, thirty groups that each hold the next one twice would be
    a thousand million, and one array could be read as often as it has names.
    """

    def __init__(self, size: int) -> None:
        self._size, self._claimed = size, 0
        self._seen: set[int] = set()

    def group(self, source: h5py.Group) -> Group:
        """ValueError and others of h5py's kind where it is not laid out as docs/format.md says."""
        import h5py

        self._see(source, source.name or "/")
        arrays: dict[str, Array] = {}
        groups: dict[str, Group] = {}
        for name in map(str, source):
            if not isinstance(source.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name} is a link to elsewhere")
            item = source[name]
            if isinstance(item, h5py.Dataset):
                arrays[name] = self._array(name, item)
            else:
                groups[name] = self.group(source.require_group(name))
        attributes = parse_json(str(source.attrs["attributes"]))
        if not isinstance(attributes, dict):
            raise ValueError(f"the attributes of {source.name} are no object")
        return Group(
            encoding_type=str(source.attrs["encoding-type"]),
            encoding_version=str(source.attrs["encoding-version"]),
            attributes=attributes,
            arrays=arrays,
            groups=groups,
        )

    def _see(self, item: h5py.Group | h5py.Dataset, name: str) -> None:
        from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module

        address = h5o.get_info(item.id).addr
        if address in self._seen:
            raise ValueError(f"{name.rpartition('/')[2]} is another name of something in the file")
        self._seen.add(address)

    def _array(self, name: str, item: h5py.Dataset) -> Array:
        import h5py

        self._see(item, name)
        if item.external or item.is_virtual:
            raise ValueError(f"the numbers of {name} lie in another file")
        if item.dtype.str.startswith(">"):
            raise ValueError(f"{name} is big-endian")
        layout = item.id.get_create_plist()
        filters = [layout.get_filter(place)[0] for place in range(layout.get_nfilters())]
        if set(filters) - {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}:
            raise ValueError(f"{name} is packed by another filter than shuffle and deflate")
        if len(set(filters)) < len(filters):
            raise ValueError(f"{name} is packed twice by one filter")
        # A chunk is unpacked whole, however little of it belongs to the array.
        if item.chunks and math.prod(item.chunks) * item.dtype.itemsize > max(item.nbytes, _SMALLEST_CHUNK):
            raise ValueError(f"{name} has chunks that are larger than the array")
        if item.dtype.kind not in "biufc":
            raise ValueError(f"{name} holds no numbers")
        self._claimed += item.nbytes
        if self._claimed > _MOST_DEFLATED * self._size:
            raise ValueError(f"{name} claims {item.nbytes} bytes, more than a file of {self._size} can hold")
        units, dims = str(item.attrs["units"]), tuple(np.asarray(item.attrs["dims"]).tolist())
        "".join((units, *map(str, dims))).encode()  # UnicodeEncodeError, of text that is none
        return Array(item[()], units, dims)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut. Some file systems cannot; the file itself is safe by then."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
