"""The store: files whole or not there, and every kind of wrong file one clear error."""

import errno
import os
import stat
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from mdls_cosim import store
from mdls_cosim.errors import InputError, StoreError
from mdls_cosim.store import Array, Group

SAMPLE = Group(
    "mdls_cosim.sample",
    "1",
    {"name": "µ", "nested": {"list": [1, 2.5, None, True]}},
    {
        "conductances": Array(np.array([[1e-6, np.nan, 3e-6], [4e-6, 5e-6, -0.0]]), "S", ("row", "col")),
        "codes": Array(np.array([1, 2], dtype=np.int8), "", ("row",)),
        "single": Array(np.array(2.5, dtype=np.float32), "V", ()),
        "empty": Array(np.zeros((0, 3)), "A", ("vector", "col")),
        "flags": Array(np.array([True, False]), "", ("row",)),
        "phasors": Array(np.array([1 + 2j]), "V", ("vector",)),
    },
    {"inner": Group("mdls_cosim.inner", "1.2", arrays={"time": Array(np.arange(3), "s", ("step",))})},
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "sample.h5"
    store.write(path, SAMPLE)
    return path


def refused(path, *arguments):
    with pytest.raises(StoreError) as caught:
        store.read(path, *arguments)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(path):
    assert store.read(path) == SAMPLE
    assert store.read(str(path), "mdls_cosim.sample", "1") == SAMPLE


@settings(max_examples=25, deadline=None)
@given(
    hypothesis_numpy.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_, np.complex128]),
        hypothesis_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)
def test_any_array_comes_back_bit_for_bit(tmp_path_factory, values, text):
    path = tmp_path_factory.mktemp("any") / "any.h5"
    group = Group("any", "1", {text: text}, {"values": Array(values, text, ("axis",) * values.ndim)})
    store.write(path, group)
    back = store.read(path)
    assert back.attributes == {text: text}
    assert back.arrays["values"].units == text
    assert back.arrays["values"].values.tobytes() == values.tobytes()


def test_any_hdf5_reader_finds_types_units_and_dims(path):
    with h5py.File(path) as file:
        assert file.attrs["encoding-type"] == "mdls_cosim.sample"
        groups = [file]
        file.visititems(lambda _, item: groups.append(item) if isinstance(item, h5py.Group) else None)
        assert len(groups) == 2
        for group in groups:
            assert {"encoding-type", "encoding-version"} <= group.attrs.keys()
            for item in group.values():
                if isinstance(item, h5py.Dataset):
                    assert isinstance(item.attrs["units"], str)
                    assert len(item.attrs["dims"]) == item.ndim
        assert list(file["conductances"].attrs["dims"]) == ["row", "col"]
        assert file["conductances"].attrs["units"] == "S"
        assert file["conductances"].dtype.str == "<f8"


def test_attributes_may_be_large(tmp_path):
    group = Group("big", "1", {"text": "x" * 300_000})
    store.write(tmp_path / "big.h5", group)
    assert store.read(tmp_path / "big.h5") == group


def test_one_flipped_byte_anywhere_is_noticed(path):
    whole = path.read_bytes()
    header = range(512)
    body = range(512, len(whole), 17)  # a sample of the bytes, data and attributes among them
    for position in (*header, *body, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        message = refused(path)
        assert position in header or "altered since it was written" in message
    path.write_bytes(whole)
    assert store.read(path) == SAMPLE


@pytest.mark.parametrize("text", [b"mdls_cosim.sample", b"nested", b"units", "µ".encode(), np.float64(3e-6).tobytes()])
def test_a_flipped_byte_of_a_name_an_attribute_or_a_number_is_noticed(path, text):
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(text)] ^= 0x01
    path.write_bytes(damaged)
    assert "altered since it was written" in refused(path)


def test_a_file_cut_off_anywhere_is_called_truncated(path):
    whole = path.read_bytes()
    for length in (*range(1, 600), *range(600, len(whole), 97), len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "truncated" in refused(path)
    path.write_bytes(b"")
    assert "an empty file" in refused(path)
    path.write_bytes(whole + b"\0")
    assert "altered" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file["conductances"].__setitem__((0, 0), 2e-6),
        lambda file: file["conductances"].attrs.__setitem__("units", "A"),
        lambda file: file.attrs.__setitem__("encoding-version", "2"),
        lambda file: file.__delitem__("codes"),
        lambda file: file.create_group("more"),
    ],
)
def test_a_change_by_another_program_is_noticed(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    assert "altered since it was written" in refused(path)


@pytest.mark.parametrize("block", [0, 512])
def test_an_hdf5_file_of_another_program_is_foreign(tmp_path, block):
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w", userblock_size=block) as file:
        file["x"] = np.arange(3)
    assert "an HDF5 file that mdls_cosim did not write" in refused(path)


@pytest.mark.parametrize("content", [b"hello\n", b"rows,cols\n" * 1000, bytes(range(256)) * 8, b"mdls_cosimulator"])
def test_what_is_not_hdf5_is_called_so(tmp_path, content):
    path = tmp_path / "text.h5"
    path.write_bytes(content)
    assert "not an HDF5 file" in refused(path)


def test_missing_files_folders_and_pipes_are_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.h5")
    assert "not a file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.h5")
    assert "not a file" in refused(tmp_path / "pipe.h5")


def test_another_type_is_refused_by_name(path):
    message = refused(path, "mdls_cosim.dataset", "1")
    assert 'got "mdls_cosim.sample", allowed mdls_cosim.dataset' in message


@pytest.mark.parametrize(("version", "newest"), [("2", "1"), ("1.1", "1"), ("10", "9")])
def test_a_newer_version_asks_for_a_newer_program(tmp_path, version, newest):
    path = tmp_path / "newer.h5"
    store.write(path, Group("thing", version))
    message = refused(path, "thing", newest)
    assert f'got "{version}", allowed up to {newest}. Read it with a newer mdls_cosim' in message
    assert store.read(path, "thing", version).encoding_version == version
    assert store.read(path, "thing").encoding_version == version


def test_a_newer_file_format_asks_for_a_newer_program(path):
    path.write_bytes(path.read_bytes().replace(b"store 1", b"store 2", 1))
    assert "a file of a newer format" in refused(path)


def test_a_sound_file_with_another_layout_is_one_error(path):
    with h5py.File(path, "r+") as file:
        del file["codes"].attrs["units"]
    with open(path, "r+b") as stream:  # signed like one of ours
        stream.write(store._header(*store._length_and_digest(stream)))
    assert "cannot be read" in refused(path)


def _ladder(file: h5py.File) -> None:
    """Thirty groups, each with two names for the next: a thousand million paths to the last."""
    steps = [file.create_group("step0")]
    for _ in range(30):
        steps.append(steps[-1].create_group("one"))
        steps[-2]["other"] = steps[-1]
    for step in steps:
        step.attrs["encoding-type"], step.attrs["encoding-version"], step.attrs["attributes"] = "any", "1", "{}"


def _circle(file: h5py.File) -> None:
    file["inner/outer"] = file["inner"]


def _many_claims(file: h5py.File) -> None:
    """None of them beyond what the file could hold, all together far beyond."""
    for index in range(20):
        claim = file.create_dataset(f"bad{index:02}", (10**6,), "f8", chunks=(10**5,), compression="gzip")
        claim.attrs["units"], claim.attrs["dims"] = "V", np.array(["x"], dtype=h5py.string_dtype())


def _wide_chunk(file: h5py.File) -> None:
    """One chunk of 3.2 GB for four numbers, of a few bytes."""
    shape = {"shape": (4,), "maxshape": (None,), "chunks": (400_000_000,)}
    file.create_dataset("bad", dtype="f8", compression="gzip", **shape)
    file["bad"].id.write_direct_chunk((0,), zlib.compress(b""))


def _twice_deflated(file: h5py.File) -> None:
    """A filter pipeline of two deflates makes a million bytes of one."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1000,))
    properties.set_deflate(9)
    properties.set_deflate(9)
    h5py.h5d.create(file.id, b"bad", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((1000,)), properties)


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
    file.create_virtual_dataset("bad", layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.__setitem__("bad", h5py.ExternalLink("/etc/passwd", "/")), "bad is a link to elsewhere"),
        (lambda file: file.__setitem__("bad", h5py.SoftLink("/nowhere")), "bad is a link to elsewhere"),
        (
            lambda file: file.create_dataset("bad", (3,), "f8", external=[("/etc/passwd", 0, 24)]),
            "the numbers of bad lie in another file",
        ),
        (_virtual, "the numbers of bad lie in another file"),
        (
            lambda file: file.create_dataset("bad", (10**12,), "f8", chunks=(10**6,), compression="gzip"),
            "bad claims 8000000000000 bytes",
        ),
        (_many_claims, "claims 8000000 bytes"),
        (_wide_chunk, "bad has chunks that are larger than the array"),
        (_twice_deflated, "bad is packed twice by one filter"),
        (lambda file: file.attrs.__setitem__("attributes", '{"a": 99999999999999999999}'), "more than 64 bits"),
        (lambda file: file.attrs.__setitem__("attributes", "[1, 2]"), "the attributes of / are no object"),
        (_ladder, "other is another name of something in the file"),
        (_circle, "is another name of something in the file"),
        (lambda file: file.__setitem__("bad", file["codes"]), "codes is another name"),
        (lambda file: file.create_dataset("bad", data=np.arange(1e3), compression="lzf"), "bad is packed by another"),
        (lambda file: file.create_dataset("bad", data=np.arange(1e3), fletcher32=True), "bad is packed by another"),
        (lambda file: file.create_dataset("bad", data=np.arange(3), dtype=">f8"), "bad is big-endian"),
        (lambda file: file.create_dataset("bad", data=np.array([1j]), dtype=">c16"), "bad is big-endian"),
        (lambda file: file.attrs.__setitem__("encoding-version", "9" * 5000), "a group needs a type and a version"),
        (lambda file: file.attrs.__setitem__("attributes", '{"a":' + "9" * 5000 + "}"), "cannot be read"),
        (lambda file: file.attrs.__setitem__("attributes", "[" * 10**5), "cannot be read"),
        (lambda file: file.attrs.__setitem__("attributes", "{"), "cannot be read"),
        (lambda file: file.create_dataset("bad", data=b"text"), "cannot be read"),
    ],
)
def test_a_hostile_file_that_is_signed_like_ours_is_one_error(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
        if isinstance(file.get("bad", getlink=True), h5py.HardLink):
            file["bad"].attrs["units"], file["bad"].attrs["dims"] = "V", np.array(["x"], dtype=h5py.string_dtype())
    with open(path, "r+b") as stream:
        stream.write(store._header(*store._length_and_digest(stream)))
    assert message in refused(path)


def test_large_arrays_are_compressed_and_small_ones_are_not(tmp_path):
    path = tmp_path / "large.h5"
    steps = Array(np.linspace(1e-6, 1e-4, 100_000).round(9), "S", ("cell",))
    store.write(path, Group("large", "1", arrays={"steps": steps, "few": Array(np.arange(3.0), "V", ("x",))}))
    assert path.stat().st_size < 0.5 * steps.values.nbytes
    assert store.read(path).arrays["steps"] == steps
    with h5py.File(path) as file:
        assert (file["steps"].compression, file["few"].compression) == ("gzip", None)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, monkeypatch, step):
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StoreError, match="No space left on device"):
        store.write(path, Group("other", "1"))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write(path, Group("other", "1"))
    monkeypatch.undo()
    assert store.read(path) == SAMPLE
    assert os.listdir(path.parent) == [path.name]


def test_a_disk_that_fills_up_is_one_error(path):
    program = (
        "import resource, sys, numpy as np\n"
        "from mdls_cosim.store import Array, Group, write\n"
        "from mdls_cosim.errors import StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "noise = np.random.default_rng(0).random(10**6)\n"
        "try: write(sys.argv[1], Group('big', '1', arrays={'x': Array(noise, 'V', ('x',))}))\n"
        "except StoreError as error: sys.exit(f'refused: {error}')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("refused: cannot be written (")
    assert len(done.stderr.splitlines()) == 1
    assert store.read(path) == SAMPLE
    assert os.listdir(path.parent) == [path.name]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(StoreError, match="over a folder"):
        store.write(tmp_path, SAMPLE)
    with pytest.raises(StoreError, match="does not exist"):
        store.write(tmp_path / "none" / "x.h5", SAMPLE)


def test_a_write_replaces_keeps_links_and_follows_the_umask(path, tmp_path):
    link = tmp_path / "link.h5"
    link.symlink_to(path)
    other = Group("other", "1")
    store.write(link, other)
    assert link.is_symlink()
    assert store.read(path) == other
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize(
    ("values", "units", "dims"),
    [
        (np.zeros((2, 3)), "V", ("row",)),
        (np.zeros(2), "V", ()),
        (np.array(["a"]), "", ("name",)),
        (np.array([None]), "", ("name",)),
        (np.zeros(2, dtype=np.longdouble), "V", ("x",)),
        (np.zeros(2), None, ("x",)),
        (np.zeros(2), "V", (1,)),
    ],
)
def test_an_array_needs_numbers_units_and_a_name_an_axis(values, units, dims):
    with pytest.raises(InputError):
        Array(values, units, dims)


def test_arrays_compare_by_everything():
    array = Array(np.array([1.0, np.nan]), "V", ("x",))
    assert array == Array(np.array([1.0, np.nan]), "V", ("x",))
    assert array != Array(np.array([1.0, 2.0]), "V", ("x",))
    assert array != Array(np.array([1.0, np.nan]), "A", ("x",))
    assert array != Array(np.array([1.0, np.nan]), "V", ("y",))
    assert array != Array(np.array([1.0, np.nan], dtype=np.float32), "V", ("x",))


@pytest.mark.parametrize(
    "make",
    [
        lambda array: Group("", "1"),
        lambda array: Group("x", "one"),
        lambda array: Group("x", "1", arrays={"a/b": array}),
        lambda array: Group("x", "1", arrays={"": array}),
        lambda array: Group("x", "1", arrays={"..": array}),
        lambda array: Group("x", "1", arrays={"a": array}, groups={"a": Group("y", "1")}),
        lambda array: Group("x", "1", attributes={"a": array}),
        lambda array: Group("x", "1", attributes={"a": np.nan}),
    ],
)
def test_a_group_refuses_what_no_file_can_hold(make):
    with pytest.raises(InputError):
        make(Array(np.zeros(1), "V", ("x",)))
