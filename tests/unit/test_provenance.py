"""Provenance: the hash is of the content alone, and the tools are named without being imported."""

import hashlib
import math
import platform
import struct
import subprocess
import sys

import numpy as np
import pytest

from mdls_cosim.config import Config
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.provenance import Provenance, canonical_json, content_hash, json_value, tool_versions
from mdls_cosim.store import Array

VALUES = np.arange(6.0).reshape(2, 3)


def arrays(values=VALUES, units="S", dims=("row", "col"), name="conductances"):
    return {name: Array(np.asarray(values), units, dims), "zero": Array(np.zeros(2), "V", ("row",))}


def test_the_hash_ignores_order_layout_and_byte_order():
    reference = content_hash(arrays(), {"a": 1, "b": [1.5, "x"]})
    assert reference.startswith("sha256:")
    assert len(reference) == len("sha256:") + 64
    assert content_hash(dict(reversed(arrays().items())), {"b": (1.5, "x"), "a": 1}) == reference
    assert content_hash(arrays(np.asfortranarray(VALUES)), {"a": 1, "b": [1.5, "x"]}) == reference
    assert content_hash(arrays(VALUES.astype(">f8")), {"a": 1, "b": [1.5, "x"]}) == reference
    assert content_hash(arrays(np.repeat(VALUES, 2, axis=1)[:, ::2]), {"a": 1, "b": [1.5, "x"]}) == reference


def test_the_hash_is_the_documented_one_in_every_process_and_version():
    # Stored files name their parents by this hash: whoever changes it needs a new encoding version.
    text = (
        b'{"arrays":['
        b'{"dims":["row","col"],"dtype":"<f8","name":"conductances","shape":[2,3],"units":"S"},'
        b'{"dims":["row"],"dtype":"<f8","name":"zero","shape":[2],"units":"V"}],'
        b'"config":{"seed":1,"tile":{"rows":2}}}'
    )
    expected = hashlib.sha256(struct.pack("<Q", len(text)) + text + struct.pack("<8d", 0, 1, 2, 3, 4, 5, 0, 0))
    assert content_hash(arrays(), {"seed": 1, "tile": {"rows": 2}}) == f"sha256:{expected.hexdigest()}"


@pytest.mark.parametrize(
    ("changed", "config"),
    [
        (arrays(VALUES + 1e-16 * (VALUES == 1)), {"a": 2}),
        (arrays(np.nextafter(VALUES, 9)), {"a": 1}),
        (arrays(-0.0 * VALUES), {"a": 1}),
        (arrays(VALUES.astype("f4")), {"a": 1}),
        (arrays(VALUES.reshape(3, 2)), {"a": 1}),
        (arrays(units="uS"), {"a": 1}),
        (arrays(dims=("col", "row")), {"a": 1}),
        (arrays(name="conductance"), {"a": 1}),
        (arrays(), {"a": 1.0}),
        (arrays(), {"a": 1, "b": None}),
    ],
)
def test_the_hash_sees_every_part_of_the_content(changed, config):
    assert content_hash(changed, config) != content_hash(arrays(), {"a": 1})


def test_time_seed_tools_and_parents_are_outside_the_hash():
    one = Provenance.create(arrays(), {"a": 1}, seed=1, tools={"ngspice": "46"}, parents=["sha256:0"])
    two = Provenance.create(arrays(), {"a": 1}, seed=2)
    assert one.content_hash == two.content_hash == content_hash(arrays(), {"a": 1})
    assert (one.parents, one.seed, one.tools["ngspice"], one.config) == (("sha256:0",), 1, "46", {"a": 1})
    assert one.created_utc.endswith("Z")


def test_provenance_is_frozen_checked_and_survives_its_dict():
    provenance = Provenance.create(arrays(), {"levels": (1, 2)}, parents=("sha256:1", "sha256:2"))
    assert Provenance(**provenance.as_dict()) == provenance
    with pytest.raises(ConfigError, match="unknown key"):
        Provenance(**provenance.as_dict(), host="here")


def test_tool_versions_name_python_and_the_packages():
    tools = tool_versions()
    assert tools["python"] == platform.python_version()
    assert tools["numpy"] == np.__version__
    assert {"mdls_cosim", "scipy", "torch", "pyspice"} <= tools.keys()
    tools["numpy"] = "changed"
    assert tool_versions()["numpy"] == np.__version__


def test_tool_versions_import_nothing():
    program = (
        "import sys; from mdls_cosim.provenance import tool_versions; tool_versions()\n"
        "sys.exit(','.join(name for name in ('torch', 'PySpice', 'scipy', 'h5py') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_canonical_json_is_sorted_tight_and_exact():
    assert canonical_json({"b": (1, 2.0), "a": {"µ": True, "n": None}}) == '{"a":{"n":null,"µ":true},"b":[1,2.0]}'
    assert canonical_json(0.1 + 0.2) == "0.30000000000000004"


def test_json_values_come_from_numpy_numbers_and_configurations():
    class Small(Config):
        size: int = 2

    assert json_value({"a": np.float32(0.5), "b": np.int64(3), "c": Small(), "d": np.bool_(True)}) == {
        "a": 0.5,
        "b": 3,
        "c": {"size": 2},
        "d": True,
    }


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, math.nan]}, r"config\.a\[1\]"),
        ({"a": math.inf}, r"config\.a"),
        ({"a": np.zeros(2)}, r"config\.a"),
        ({"a": {1: 2}}, r"config\.a"),
        ({"a": object()}, r"config\.a"),
        ({"a": {1, 2}}, r"config\.a"),
    ],
)
def test_what_has_no_json_is_refused_by_its_place(value, where):
    with pytest.raises(InputError, match=f"at {where}: got"):
        json_value(value, "config")
