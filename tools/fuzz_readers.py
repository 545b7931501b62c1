"""Damaged and hostile input to every reader: each must accept it or raise one MdlsError.

    python tools/fuzz_readers.py [--inputs 100000] [--reader NAME ...] [--seed 0] [--keep DIR]

Mutates good files (bytes, words, numbers; the structure of HDF5 and zip files, with checksums made anew) and hands them
to the readers of TOML of each kind, tables, subcircuits, HDF5, npz, weights, journals and quantities, `--inputs` each.
A reader fails if it raises anything but an MdlsError of at most 300 characters, takes more than 5 seconds or 1 GB, or
leaves a file. Prints a line a reader; the exit status is 1 if one failed. `--keep` saves the inputs that failed.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mdls_cosim.errors import MdlsError

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 300  # characters of a message
SECONDS = 5
BYTES = 1_000_000_000
LARGEST_INPUT = 200_000  # bytes; a bomb is small
_SHOWN = 3

_WORDS = """
nan inf -inf 1e400 -1e400 1e-400 0 -0.0 -1 1 2 9999999999999999999999 18446744073709551616 1_000 0x10 0b1 1e true false
"" [] {} [[ ]] = , ; : . .. / // # * + - ( ) { } $ @ % & ~ | ? ! < > ` ´ µ Ω ± – é 😀 ../../etc/passwd /dev/zero
/dev/stdin file:///etc/passwd "1 "-1 uS" V" ohm" "1e309 "NaN kdB" dBm" degC" %" furlong" V**V" V**1e9" 1e9 1979-05-27
07:32:00 .subckt .ends .model .param .func .include .lib .control .endc .end .tran .options d_process filesource {a}
{{a}} 'a' a=1 a={a} e pi temp gnd pwr( sgn( i( v( k meg mil u rows cols tile cell model file parameters variability
effects hardware conductance_range sweep __class__ __init__ %s {0} \\n \\t \\u0000 \\x00 \\ud800 voltage current time
conductance V A s S ohm mV uA 9.91E+37 OVLD --- NULL"""
WORDS = [*_WORDS.split(), "\0", "\u2028", "\u00a0"]

Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A reader, and good inputs of it."""

    read: Reader
    suffix: str
    seeds: tuple[bytes, ...]
    mutate: Callable[[bytes, random.Random, tuple[bytes, ...]], bytes] = field(default=lambda *all: mutated_text(*all))


# --- Mutations ----------------------------------------------------------------------------------------------------


def mutated_bytes(content: bytes, draw: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """`content` after one to four changes of bytes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place = draw.randrange(len(data) + 1)
        match draw.randrange(6):
            case 0 if data:
                data[place % len(data)] ^= 1 << draw.randrange(8)
            case 1 if data:
                data[place % len(data)] = draw.choice((0, 255, 127, 128, 10, 34, 46, draw.randrange(256)))
            case 2:
                del data[place : place + draw.choice((1, 2, 8, 64, 512))]
            case 3:
                data[place:place] = bytes(draw.randrange(256) for _ in range(draw.choice((1, 4, 16))))
            case 4:
                del data[place:]
            case _:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                data[place:place] = other[start : start + draw.choice((1, 16, 256))]
    return bytes(data[:LARGEST_INPUT])


def mutated_text(content: bytes, draw: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """`content` after one to four changes of words, numbers and lines; now and then of bytes."""
    if draw.random() < 0.2:
        return mutated_bytes(content, draw, seeds)
    text = content.decode("utf-8", "surrogateescape")
    for _ in range(draw.choice((1, 1, 2, 3, 4))):
        text = _changed_text(text, draw, seeds)
    return text[:LARGEST_INPUT].encode("utf-8", "surrogatepass" if draw.random() < 0.5 else "replace")


def _changed_text(text: str, draw: random.Random, seeds: tuple[bytes, ...]) -> str:
    spans = _words(text)
    start, end = draw.choice(spans) if spans else (0, 0)
    word = draw.choice(WORDS)
    match draw.randrange(9):
        case 0:
            return text[:start] + word + text[end:]
        case 1:
            return text[:start] + word + " " + text[start:]
        case 2:
            return text[:start] + text[end:]
        case 3:
            return text[:start] + text[start:end] * draw.choice((2, 3, 100, 5000)) + text[end:]
        case 4:
            other_start, other_end = draw.choice(spans) if spans else (0, 0)
            return text[:start] + text[other_start:other_end] + text[end:]
        case 5:
            return text[: draw.randrange(len(text) + 1)]
        case 6:
            lines = text.splitlines(keepends=True)
            draw.shuffle(lines) if draw.random() < 0.2 else lines.insert(
                draw.randrange(len(lines) + 1), draw.choice(lines or [""])
            )
            return "".join(lines)
        case 7:
            return text[:start] + draw.choice("([{\"'-.\\+*") * draw.choice((1, 50, 3000)) + text[start:]
        case _:
            other = draw.choice(seeds).decode("utf-8", "replace")
            lines = other.splitlines(keepends=True) or [""]
            first = draw.randrange(len(lines))
            return text[:start] + "".join(lines[first : first + draw.choice((1, 3, 10))]) + text[start:]


def _words(text: str) -> list[tuple[int, int]]:
    """(start, end) of every word, number or sign."""
    import re

    return [match.span() for match in re.finditer(r"[A-Za-z_]+|[-+]?\d[\d.]*(?:[eE][-+]?\d+)?|\S", text[:20_000])]


def mutated_store(content: bytes, draw: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """An HDF5 file of ours with another structure and a header that fits; now and then with other bytes."""
    if draw.random() < 0.1:
        return mutated_bytes(content, draw, seeds)
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        for _ in range(draw.choice((1, 1, 2, 3))):
            names = ["/"]
            file.visit(names.append)
            # Not everything that is drawn can be written.
            with contextlib.suppress(ValueError, TypeError, OSError, RuntimeError, OverflowError, KeyError):
                _change_item(file, draw.choice(names), draw)
        if draw.random() < 0.7:
            with contextlib.suppress(Exception):
                _hash_anew(file)
    return with_header(stream.getvalue()[512:])


def _hash_anew(file: h5py.File) -> None:
    """Make the content hash that of the content, so that readers go on to look at it."""
    from mdls_cosim.provenance import content_hash
    from mdls_cosim.store import Array

    attributes = json.loads(file.attrs["attributes"])
    config, arrays = attributes["provenance"]["config"], {}
    if "kind" in attributes or "domain" in attributes:
        config = {name: value for name, value in attributes.items() if name != "provenance"}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = Array(item[()], item.attrs["units"], tuple(item.attrs["dims"]))

    file.visititems(visit)
    attributes["provenance"] |= {"config": config, "content_hash": content_hash(arrays, config)}
    file.attrs["attributes"] = json.dumps(attributes)


def with_header(body: bytes) -> bytes:
    """The file whose HDF5 part is `body`."""
    head = b"mdls_cosim store 1\nbytes %d\nsha256 %s\n" % (len(body), hashlib.sha256(body).hexdigest().encode())
    return head.ljust(512, b"\n") + body


def _change_item(file: h5py.File, name: str, draw: random.Random) -> None:
    item: Any = file[name]
    if isinstance(item, h5py.Dataset):
        return _change_dataset(item, draw)
    key = draw.choice(list(item.attrs) or ["attributes"])
    match draw.randrange(8):
        case 0 | 1 | 2 if isinstance(value := item.attrs.get(key), str):
            other = mutated_text(value.encode(), draw, (value.encode(),)).decode("utf-8", "replace").replace("\0", "")
            item.attrs[key] = _json_changed(value, draw) if key == "attributes" and draw.random() < 0.7 else other
        case 3:
            item.attrs[key] = draw.choice((1, 1.5, b"x", [1, 2], np.zeros(3), "", "1.9", "99", True))
        case 4 if key in item.attrs:
            del item.attrs[key]
        case 5:
            item.attrs["more"] = "x" * draw.choice((1, 70_000))
        case 6 if len(item):
            del item[draw.choice(list(item))]
        case _:
            place = draw.choice(("more", "currents", "base", "a b", "…"))
            if place not in item:
                draw.choice((_add_group, _add_array, _add_bomb, _add_link))(item, place)
    return None


def _change_dataset(item: h5py.Dataset, draw: random.Random) -> None:
    parent, name, values = item.parent, item.name.rpartition("/")[2], item[()]
    attributes = dict(item.attrs)
    match draw.randrange(7):
        case 0:
            values = values.astype(draw.choice(("f4", "i8", "u1", "c16", "f2", ">f8")))
        case 1:
            values = np.asarray(values).reshape(-1)
        case 2:
            values = np.full(values.shape, draw.choice((np.nan, np.inf, -1.0, 0.0, 1e300)))
        case 3:
            values = values[:0] if values.ndim else np.zeros(0)
        case 4:
            values = np.array([b"text", b""])
        case 5:
            attributes.pop(draw.choice(list(attributes) or ["units"]), None)
        case _:
            attributes[draw.choice(("units", "dims"))] = draw.choice(("", 3, "x", ["a", "b"], ["a"] * 40, b"\xff"))
    del parent[name]
    made = parent.create_dataset(name, data=values)
    for key, value in attributes.items():
        made.attrs[key] = value


def _add_group(item: h5py.Group, name: str) -> None:
    item.create_group(name)


def _add_array(item: h5py.Group, name: str) -> None:
    item.create_dataset(name, data=np.arange(3.0))


def _add_bomb(item: h5py.Group, name: str) -> None:
    """A few bytes that unfold to gigabytes: one chunk, never filled or twice deflated."""
    made = item.create_dataset(name, (4,), "f8", maxshape=(None,), chunks=(400_000_000,), compression="gzip")
    made.attrs["units"], made.attrs["dims"] = "V", ["x"]
    made.id.write_direct_chunk((0,), zlib.compress(b"\0" * 32))


def _add_link(item: h5py.Group, name: str) -> None:
    item[name] = h5py.ExternalLink("/etc/hostname", "/x")


def _json_changed(text: str, draw: random.Random) -> str:
    """JSON with one value exchanged."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return "{}"
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            places.append((value, key))
            visit(child)

    visit(whole)
    if not places:
        return draw.choice(("[]", "null", "3", '"x"', "{}", "[" * 5000, "1" * 5000))
    holder, key = draw.choice(places)
    holder[key] = draw.choice(
        (
            None,
            -1,
            0,
            2**70,
            10**400,
            1e300,
            -0.5,
            True,
            "",
            "x" * 2000,
            [],
            {},
            [[]],
            {"a": 1},
            "nan",
            ["a"],
            [1, 2, 3],
        )
    )
    if draw.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    return json.dumps(whole)


def mutated_zip(content: bytes, draw: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """A zip archive with other bytes, or with other bytes of a member and a checksum that fits."""
    if draw.random() < 0.4:
        return mutated_bytes(content, draw, seeds)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(stream, "w") as target:
        members = source.namelist()
        chosen = draw.choice(members)
        for name in members:
            inside = source.read(name)
            if name == chosen:
                inside = mutated_bytes(inside, draw, (inside,))
                kind = draw.randrange(6)
                if kind == 0:
                    continue
                if kind == 1:
                    name = draw.choice(("../x", "x.npy", name.upper(), name + "\0", "a" * 300))
                if kind == 2:
                    inside = inside.replace(b"(", b"(" * 300, 1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target.writestr(name, inside, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)))
    found = bytearray(stream.getvalue())
    if draw.random() < 0.05:  # encrypted, it says
        place = found.find(b"PK\x01\x02")
        found[place + 8] |= 1
    return bytes(found)


# --- Readers ------------------------------------------------------------------------------------------------------


def cases(folder: Path) -> dict[str, Callable[[], Case]]:
    """Every reader by name, made when it is asked for; `folder` takes what they need beside their input."""
    return {
        "specification": lambda: _specification(folder),
        "simulation": _simulation,
        "tile": _tile,
        "declaration": lambda: _declaration(folder),
        "subcircuit": lambda: _subcircuit(folder),
        "parameters": _parameters,
        "setup": _setup,
        "table": _table,
        "quantity": _quantity,
        "dataset": lambda: _stored("dataset"),
        "surrogate": lambda: _stored("surrogate"),
        "pulse surrogate": lambda: _stored("pulse-surrogate"),
        "results": _results,
        "npz": lambda: _npz(folder),
        "safetensors": lambda: _weights(folder, "safetensors"),
        "state_dict": lambda: _weights(folder, "pt"),
        "journal": lambda: _journal(folder),
        "audit": _audit,
    }


def _files(*patterns: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for pattern in patterns for path in sorted(ROOT.glob(pattern)))


def _specification(folder: Path) -> Case:
    from mdls_cosim.cli.files import load_plan

    return Case(
        load_plan, ".toml", _files("examples/tile.toml", "examples/experiments/*.toml", "examples/campaign.toml")
    )


def _simulation() -> Case:
    from mdls_cosim.network.experiment.simulation import Simulation

    return Case(Simulation.load, ".toml", _files("examples/experiment.toml", "examples/*digits.toml"))


def _tile() -> Case:
    from mdls_cosim.config import load_toml
    from mdls_cosim.tiles import TileSpec

    seed = b"""rows = 4
cols = 3
row_line_resistance = "1 ohm"
temperature = "300 K"
amplifier = { feedback_resistance = "10 kohm", gain = 100.0 }
cell = { model = "vteam", parameters = "vteam_example" }
"""
    return Case(lambda path: load_toml(path, TileSpec), ".toml", (seed,))


_CELL = b"""* a cell
.subckt mine row column params: g=50u k={2*g}
.param half={g/2}
.func f(x) {x*x+1}
G1 row column cur='g*V(row,column)*f(0.1)+half*0'
R1 row column {1/g}
.ends mine
"""
_DECLARED = b"""subcircuit = "mine"
pins = ["row", "column"]
state = { parameter = "g", quantity = "conductance" }
parameters = { k = 1e-4 }
"""
_SPECIFIED = b'[tile]\nrows = 2\ncols = 2\n[read]\nvoltage = "0.1 V"\n'


def _declaration(folder: Path) -> Case:
    from mdls_cosim.cli.files import load_plan

    (folder / "spec.toml").write_bytes(_SPECIFIED)

    def read(path: Path) -> object:
        beside = path.with_suffix(".sub")
        beside.write_bytes(_CELL)
        try:
            return load_plan(folder / "spec.toml", beside)
        finally:
            beside.unlink()

    return Case(read, ".toml", (_DECLARED,))


def _subcircuit(folder: Path) -> Case:
    from mdls_cosim.cli.files import load_plan
    from mdls_cosim.fidelity import SpiceTile

    (folder / "spec.toml").write_bytes(_SPECIFIED)

    def read(path: Path) -> object:
        beside = path.with_suffix(".toml")
        beside.write_bytes(_DECLARED)
        try:
            tile = load_plan(folder / "spec.toml", path).tile
        finally:
            beside.unlink()
        return SpiceTile(tile).deck(np.full((2, 2), 5e-5), np.zeros(2))

    return Case(read, ".sub", (_CELL, *_files("spice_models/*.sub")))


def _parameters() -> Case:
    from mdls_cosim.tiles import TileSpec

    def read(path: Path) -> object:
        whole = {"rows": 2, "cols": 2, "cell": {"model": model_of(path), "parameters": str(path)}}
        return TileSpec.from_text_dict(whole, str(path), folder=str(path.parent))

    def model_of(path: Path) -> str:
        text = path.read_text(encoding="utf-8", errors="replace")
        return next((name for name in ("vteam", "yakopcic", "data_driven", "stanford_pku") if name in text), "sinh")

    return Case(read, ".toml", _files("calibration/**/*.toml"))


def _setup() -> Case:
    from mdls_cosim.calibrate.reading import MeasuredFiles
    from mdls_cosim.config import load_toml

    seed = b"""[[measurement]]
file = "loop.csv"
series_resistance = "5 kohm"
[[file]]
path = "loop.csv"
kind = "loop"
columns = ["time [s]", "voltage [V]", "current [A]"]
"""
    return Case(lambda path: load_toml(path, MeasuredFiles), ".toml", (seed,))


def _table() -> Case:
    from mdls_cosim.calibrate.reading import read_measurement

    rows = [f"{i * 1e-3:g},{np.sin(i / 8):.5g},{1e-4 * np.sin(i / 8):.5g}" for i in range(50)]
    loop = "\n".join(["time [s],voltage [V],current [A]", *rows]).encode()
    levels = b"target [S],conductance [S]\n" + b"\n".join(b"1e-5,1.0%de-5" % i for i in range(20))
    drift = b"# a trace\ntime [s];conductance [uS]\n" + b"\n".join(b"%d;%d,5" % (i, 50 - i) for i in range(20))
    pulses = b"amplitude [V],width [s],conductance [S]\n" + b"\n".join(b"1.0,1e-6,%de-6" % i for i in range(20))
    seeds = (loop, levels, drift, pulses, loop.replace(b",", b"\t"), loop.decode().encode("utf-16"))
    return Case(read_measurement, ".csv", seeds)


def _quantity() -> Case:
    from mdls_cosim.quantities import parse_quantity

    seeds = tuple(
        text.encode()
        for text in ("25 uS", "-1.5e3 kohm", "300 K", "0.1 eV", "3 / V", "1 ohm*m", "2 V**2/s", "5 %", "1 µA", "1e-9 s")
    )

    def read(path: Path) -> object:
        text = path.read_text(encoding="utf-8", errors="replace")
        for unit in ("siemens", "volt", "1/volt", "second", "joule", "dimensionless"):
            try:
                parse_quantity(text, unit)
            except MdlsError as error:
                last = error
        raise last  # of another dimension than the last at least

    return Case(read, ".txt", seeds)


def _stored(kind: str) -> Case:
    from mdls_cosim.dataset import Dataset
    from mdls_cosim.surrogates import PulseSurrogate, load

    readers: dict[str, Reader] = {"dataset": Dataset.load, "surrogate": load, "pulse-surrogate": PulseSurrogate.load}
    found = sorted(ROOT.glob(f"tests/archives/{kind}-*.h5"), key=lambda path: path.stat().st_size)[:2]
    return Case(readers[kind], ".h5", tuple(path.read_bytes() for path in found), mutated_store)


def _results() -> Case:
    from mdls_cosim.network.experiment.results import SimulationResult, _flat
    from mdls_cosim.provenance import Provenance
    from mdls_cosim.store import Array

    base = {"accuracy": Array(np.full(2, 0.9), "1", ("run",))}
    config = {"simulation": {}, "subject": {}, "sweeps": {}, "layers": 1}
    origin = Provenance.create(_flat(base, {}), config, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.h5"
        SimulationResult(base, {}, config, origin, ()).save(path)
        seed = path.read_bytes()
    return Case(SimulationResult.load, ".h5", (seed,), mutated_store)


def _npz(folder: Path) -> Case:
    from mdls_cosim.network.data import npz

    stream = io.BytesIO()
    inputs, labels = np.random.default_rng(0).random((6, 2, 2), np.float32), np.arange(6) % 2
    np.savez(stream, train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)
    packed = io.BytesIO()
    np.savez_compressed(packed, train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)
    return Case(npz, ".npz", (stream.getvalue(), packed.getvalue()), mutated_zip)


def _weights(folder: Path, suffix: str) -> Case:
    import torch
    from torch import nn

    from mdls_cosim.network.weights import load_weights, save_weights

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    place = folder / f"seed.{suffix}"
    if suffix == "pt":
        torch.save(model().state_dict(), place)
        old = folder / "old.pt"
        torch.save(model().state_dict(), old, _use_new_zipfile_serialization=False)
        seeds = (place.read_bytes(), old.read_bytes())
        old.unlink()
    else:
        save_weights(model(), place)
        seeds = (place.read_bytes(),)
    place.unlink()
    fresh = model()

    def mutate(content: bytes, draw: random.Random, seeds: tuple[bytes, ...]) -> bytes:
        if suffix == "pt" and content.startswith(b"PK") and draw.random() < 0.7:
            return mutated_zip(content, draw, seeds)
        if suffix != "pt" and draw.random() < 0.6:
            length = int.from_bytes(content[:8], "little")
            header = mutated_text(content[8 : 8 + length], draw, (content[8 : 8 + length],))
            return len(header).to_bytes(8, "little") + header + content[8 + length :]
        return mutated_bytes(content, draw, seeds)

    return Case(lambda path: load_weights(fresh, path), f".{suffix}", seeds, mutate)


def _journal(folder: Path) -> Case:
    from mdls_cosim.characterize import Characterization, Journal, Outcome
    from mdls_cosim.characterize.campaign import Campaign
    from mdls_cosim.config import parse_toml

    plan = Characterization.from_text_dict(parse_toml(_SPECIFIED.decode(), "spec"), "spec")
    points = Campaign(plan).points[:3]
    place = folder / "seed.journal"
    with Journal.open(place) as journal:
        journal.begin("plan", {"ngspice": "46"})
        for point in points:
            journal.keep(point, Outcome(point.label, {"currents": np.zeros((4, 2))}, seconds=0.1, attempts=1))
    seed = place.read_bytes()
    place.unlink()

    def read(path: Path) -> object:
        with Journal.open(path, resume=True) as journal:
            journal.begin("plan", {"ngspice": "46"})
            return journal.count(points), [journal.known(point) for point in points]

    return Case(read, ".journal", (seed,), mutated_bytes)


def _audit() -> Case:
    from mdls_cosim.report import read_audit

    return Case(read_audit, ".json", (b'{"by_layer": [{"name": "a", "rms": 0.1}], "pairs": {}, "subject": {"a": 1}}',))


# --- The run ------------------------------------------------------------------------------------------------------


class TooSlow(BaseException):
    """A reader that did not end."""


def failures_of(name: str, inputs: int, seed: int, keep: Path | None) -> Iterator[str]:
    """What went wrong, a line an input."""
    memory = "/dev/shm"  # a file there costs less than the reading of it
    with tempfile.TemporaryDirectory(
        prefix="mdls-fuzz-", dir=memory if os.access(memory, os.W_OK) else None
    ) as scratch:
        beside, folder = Path(scratch) / "beside", Path(scratch) / "in"
        beside.mkdir()
        folder.mkdir()
        case = cases(beside)[name]()
        path = folder / f"x{case.suffix}"
        limit_memory()
        for number in range(inputs):
            draw = random.Random(f"{name} {seed} {number}")
            content = case.mutate(draw.choice(case.seeds), draw, case.seeds)
            path.write_bytes(content)
            found = problem_of(case.read, path)
            left = {each.name for each in folder.iterdir()} - {path.name}
            if found is None and left:
                found = f"left {sorted(left)}"
            for each in left:
                (folder / each).unlink()
            if found is not None:
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name.replace(' ', '-')}-{seed}-{number}{case.suffix}").write_bytes(content)
                yield f"{name} {seed} {number}: {found}"


def problem_of(read: Reader, path: Path) -> str | None:
    """What is wrong with what `read` does; None where it accepts the input or refuses it properly."""

    def alarm(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except MdlsError as error:
        text = str(error).replace(str(path.parent), "")
        return f"a message of {len(text)} characters: {text[:200]}" if len(text) > LONGEST else None
    except TooSlow:
        return f"took more than {SECONDS} s in {traceback.format_exc().splitlines()[-4].strip()}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)
        ours = next((each for each in reversed(place) if "mdls_cosim" in each.filename), place[-1])
        return f"{type(error).__name__} ({str(error)[:100]!r}) at {Path(ours.filename).name}:{ours.lineno}"
    finally:
        signal.alarm(0)
    return None


def limit_memory() -> None:
    """From here on `BYTES` more than now."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _worker(name: str, inputs: int, seed: int, keep: Path | None, pipe: Any) -> None:
    faulthandler.enable()
    found = []
    for line in failures_of(name, inputs, seed, keep):
        found.append(line)
        if len(found) >= 200:
            break
    pipe.send(found)


def run_reader(name: str, inputs: int, seed: int, keep: Path | None) -> list[str]:
    """Failures of a reader, in a process of its own that may crash."""
    context = multiprocessing.get_context("fork")  # what is imported is imported once
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_worker, args=(name, inputs, seed, keep, theirs))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        found = None
    process.join()
    return [f"{name}: the process ended with {process.exitcode}"] if found is None else found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs of every reader (default: 100000)")
    parser.add_argument("--reader", action="append", help="this reader only; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    warnings.simplefilter("ignore")  # of the mutations
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed")
    arguments = parser.parse_args()
    names = arguments.reader or list(cases(Path()))
    if len(names) > 1:
        import mdls_cosim.cli.files
        import mdls_cosim.network.experiment  # noqa: F401
    failed = 0
    for name in names:
        began = time.perf_counter()
        found = run_reader(name, arguments.inputs, arguments.seed, arguments.keep)
        failed += len(found)
        print(f"{name:16} {arguments.inputs} inputs, {len(found)} failures, {time.perf_counter() - began:.0f} s")
        for line in found[:_SHOWN]:
            print(f"    {line}", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
