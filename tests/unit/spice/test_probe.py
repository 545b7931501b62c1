import json
import subprocess
import sys

import pytest

from mdls_cosim.errors import SpiceNotFound
from mdls_cosim.spice.probe import main, probe


@pytest.mark.ngspice
def test_the_probe_tells_what_really_solves(capsys: pytest.CaptureFixture[str]):
    info = probe()
    assert info.solver in ("klu", "sparse")
    assert int(info.version.split(".")[0]) >= 30
    assert main(["--solver"]) == 0
    assert capsys.readouterr().out == f"{info.solver}\n"
    assert main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["solver"] == info.solver


@pytest.mark.ngspice
def test_the_probe_is_a_program():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mdls_cosim.spice.probe"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert "solver" in done.stdout


def test_no_library_is_no_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("NGSPICE_LIBRARY", "/nowhere/libngspice.so")
    with pytest.raises(SpiceNotFound):
        probe()
    assert main(["--solver"]) == 1
    assert capsys.readouterr().out == ""
    assert main([]) == 1
    assert "/nowhere/libngspice.so" in capsys.readouterr().out


def test_an_unknown_argument_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["--sovler"]) == 2
    assert "--sovler" in capsys.readouterr().err


def test_importing_the_room_loads_neither_pyspice_nor_torch():
    script = (
        "import sys, mdls_cosim.spice, mdls_cosim.spice.doctor, mdls_cosim.spice.worker\n"
        "print(sorted({'PySpice', 'torch', 'cffi', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
