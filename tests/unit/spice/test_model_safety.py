"""Circuit text that would start a program, load a library, read a file or end ngspice: refused beforehand."""

import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mdls_cosim.characterize import Characterization
from mdls_cosim.cli import app
from mdls_cosim.dataset import Dataset, Failure
from mdls_cosim.errors import ConfigError, DeckError, StoreError
from mdls_cosim.spice import Deck
from mdls_cosim.spice.library import definitions, model_names
from mdls_cosim.spice.model_types import CODE_MODELS, DEVICES
from mdls_cosim.spice.stored_circuit import checked_circuit
from mdls_cosim.tiles import SubcircuitCell, TileSpec

# A cell that carries 1 mS and has one more line, LINE; PROGRAM writes the marker, FILE is a file of the user.
CELL = """* a cell
.subckt own p n g=1m
Gown p n p n {g}
abits [p n] [bit clock] bits
LINE
.ends own
"""
PROCESS = "aproc [bit] clock null [out] proc\n.model proc %s\n.model bits adc_bridge(in_low=0.4 in_high=0.5)"

HOSTILE = {
    "d_process": PROCESS % 'd_process(process_file="PROGRAM" process_params=["a"])',
    "upper case": PROCESS % 'D_PROCESS (process_file="PROGRAM")',
    "continuation": PROCESS % '\n* a comment\n+ d_process(\n+ process_file="PROGRAM")',
    "continued word": ".mod\n+el proc d_process(process_file=PROGRAM)",
    "tabs": PROCESS.replace(" ", "\t") % 'd_process(process_file="PROGRAM")',
    "equals sign": ".model proc=d_process(process_file=PROGRAM)",
    "comma": ".model proc,d_process(process_file=PROGRAM)",
    "comma behind the command": ".model,proc,d_process(process_file=PROGRAM)",
    "brackets": ".model (proc) d_process(process_file=PROGRAM)",
    "braces for the type": ".param kind=1\n.model proc {kind}(process_file=PROGRAM)",
    "string parameter": '.param kind="d_process"\n.model proc kind(process_file=PROGRAM)',
    "quoted name": ".model 'proc' d_process(process_file=PROGRAM)",
    "quoted type": '.model proc "d_process"(process_file=PROGRAM)',
    "ako": ".model other d(is=1e-14)\n.model proc ako:other d_process(process_file=PROGRAM)",
    "inner subcircuit": ".subckt inner a b\n" + PROCESS % 'd_process(process_file="PROGRAM")' + "\n.ends inner",
    "unused branch": ".if (1 > 2)\n.model proc d_process(process_file=PROGRAM)\n.endif",
    "cmodel": ".cmodel proc d_process(process_file=PROGRAM)",
    "model with a suffix": ".models proc d_process(process_file=PROGRAM)",
    "unicode blank": ".model\u00a0proc d_process(process_file=PROGRAM)",
    "unicode line": "* text\u2028.model proc d_process(process_file=PROGRAM)\n.model d d_process",
    "form feed": ".model proc\x0cd_process(process_file=PROGRAM)",
    "carriage return": "* text\r.model proc d_process(process_file=PROGRAM)",
    "after a comment sign in quotes": ".param a='1 ; 2'\n.model proc d_process(process_file=PROGRAM)",
    "unclosed quote": "Rx p n '1k\n.model proc d_process(process_file=PROGRAM)",
    "backslashes": "Rx p n 1k \\\\\n.model proc d_process(process_file=PROGRAM)",
    "macro": ".macro inner a b\n.model proc d_process(process_file=PROGRAM)\n.eom",
    "d_cosim": '.model proc d_cosim(simulation="PROGRAM")',
    "filesource": '.model proc filesource(file="FILE")',
    "d_source": '.model proc d_source(input_file="FILE")',
    "d_state": '.model proc d_state(state_file="FILE")',
    "table2d": '.model proc table2d(file="FILE")',
    "table3d": '.model proc table3d(file="FILE")',
    "xfer": '.model proc xfer(file="FILE")',
    "file of an allowed model": '.model proc pwl(x_array=[0 1] y_array=[0 1] input_file="FILE")',
    "file without quotes": ".model proc pwl(x_array=[0 1] y_array=[0 1] file=FILE)",
    "file in capitals": ".model proc pwl(x_array=[0 1] y_array=[0 1] File = FILE)",
    "numd": ".model proc numd level=1",
    "numos": ".model proc numos",
    "vdmos of another name": ".model proc vdmosx",
    "frequency table of a file": "E1 p n freq {V(p,n)}= file=FILE",
    "frequency table": "E1 p n FREQ {V(p,n)} = (1,0,0)",
    "external source": "V1 p x dc 0 external",
    "digital gate": "U1 buf(1) p n x dgate io",
    "compiled device": "N1 p n proc\n.model proc my_module",
    "include": ".include FILE",
    "incpslt": ".incpslt FILE",
    "inc in capitals": ".INC 'FILE'",
    "lib": ".lib FILE tt",
    "include after blanks": "\t .include FILE",
    "control": ".control\nshell touch MARKER\n.endc",
    "control in capitals": ".CONTROL\nshell touch MARKER\n.ENDC",
    "command in a comment": "*# shell touch MARKER",
    "command in a comment after blanks": "  *#shell touch MARKER",
    "command": "shell touch MARKER",
    "codemodel": "codemodel PROGRAM",
    "pre_codemodel": "pre_codemodel PROGRAM",
    "osdi": "osdi PROGRAM",
    "end of the file": "@",
    "backquotes": "Rx p n `touch MARKER`",
    "alter": "alter r1 = 5",
    "options": ".options rshunt=1e3",
    "hdl": ".hdl 'FILE'",
    "title": ".title x\n.control",
    "end": ".end\n.control",
    "function of another name": ".func model(x) {x}\n.funcs f(x) {x}\n.model proc d_process",
    "save": ".save all",
    "measure": ".meas tran x find v(p) at=1",
    "global": ".global p",
    "csparam": ".csparam x=1",
    "parse error of a device": "1shell touch",
}


REFUSED_BY_NAME = {"d_process", "d_cosim", "filesource", "d_source", "d_state", "table2d", "table3d", "xfer", "numos"}


@pytest.fixture
def traps(tmp_path: Path) -> tuple[Callable[[str], str], Path]:
    """What puts the paths into a text, and the marker that must not appear."""
    program, marker, secret = tmp_path / "program.sh", tmp_path / "marker", tmp_path / "secret"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    secret.write_text("0 0\n1 1\n")

    def put(line: str) -> str:
        text = CELL if "abits" in line or "aproc" in line else CELL.replace("abits [p n] [bit clock] bits\n", "")
        for name, path in (("PROGRAM", program), ("MARKER", marker), ("FILE", secret)):
            line = line.replace(name, str(path))
        return text.replace("LINE", line)

    return put, marker


STATE = {"parameter": "g", "quantity": "conductance"}


def cell_table(text: str) -> dict:
    return {"model": "subcircuit", "subcircuit": "own", "text": text, "pins": ["row", "column"], "state": STATE}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_wherever_it_comes_from(name: str, traps, tmp_path: Path):
    put, marker = traps
    text = put(HOSTILE[name])
    (tmp_path / "own.sub").write_text(text)
    (tmp_path / "own.toml").write_text('pins = ["row", "column"]\n[state]\nparameter = "g"\nquantity = "conductance"\n')
    config = {"tile": {"rows": 1, "cols": 1, "cell": cell_table(text)}, "iv": {}}
    tries: dict[str, Callable[[], object]] = {
        "file": lambda: SubcircuitCell(file=str(tmp_path / "own.sub")),
        "specification": lambda: TileSpec.from_text_dict(config["tile"]),
        "stored configuration": lambda: Characterization(**config),
        "deck": lambda: Deck("hostile", ("Vin in 0 0", "Xa in 0 own"), models=(text,), sources=("Vin",)),
    }
    for source, build in tries.items():
        with pytest.raises((ConfigError, DeckError)) as caught:
            build()
        assert len(str(caught.value)) <= 400, (source, str(caught.value))
        if name in REFUSED_BY_NAME:
            assert f"type {name} is refused" in str(caught.value)
    assert not marker.exists()


@pytest.mark.ngspice
def test_the_first_of_them_would_start_the_program(traps, tmp_path: Path):
    """Sent to ngspice as it is, so that the test above is about something."""
    put, marker = traps
    program = shutil.which("ngspice")
    if program is None:
        pytest.skip("there is no ngspice program, only the library")
    circuit = f"* t\nV1 in 0 0.9\nXa in 0 own\n{put(HOSTILE['d_process'])}.control\nop\nquit\n.endc\n.end\n"
    (tmp_path / "t.cir").write_text(circuit)
    subprocess.run([program, "-b", str(tmp_path / "t.cir")], capture_output=True, timeout=60, check=False)
    if not marker.exists():
        pytest.skip("this ngspice has no d_process")


def written(tmp_path: Path, config: dict, **failure: str) -> Path:
    failures = [Failure("iv", "iv, cell 0", "no solution", **{"deck": "", "log": "", **failure}, attempts=1)]
    path = tmp_path / "data.h5"
    Dataset.create({}, config, seed=0, failures=failures if failure else ()).save(path)
    return path


def test_a_dataset_that_carries_a_hostile_cell_gives_no_deck(traps, tmp_path: Path):
    put, marker = traps
    config = Characterization(
        tile=TileSpec(rows=1, cols=1, cell=cell_table(put("Rx p n 1k"))), iv={"cells": 1}
    ).as_dict()
    config["tile"]["cell"]["text"] = put(HOSTILE["d_process"])
    result = CliRunner().invoke(app, ["deck", str(written(tmp_path, config)), "--point", "0"])
    assert result.exit_code == 2
    assert "a .model of type d_process is refused" in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert not marker.exists()


@pytest.mark.parametrize("key", ["file", "parameters", "osdi"])
def test_a_dataset_that_names_a_file_is_refused(key: str, traps, tmp_path: Path):
    cell = cell_table(traps[0]("Rx p n 1k"))
    config = Characterization(tile=TileSpec(rows=1, cols=1, cell=cell), iv={"cells": 1}).as_dict()
    changed = {"model": "vteam"} if key == "parameters" else dict(config["tile"]["cell"])
    config["tile"]["cell"] = changed | {key: "/etc/passwd"}
    with pytest.raises(StoreError, match="names a file"):
        Dataset.load(written(tmp_path, config))


GOOD = """* tile 1x1
Vin in 0 0
Xa in 0 own g=1
Bmdls_vrow0 in2 0 v=pwl(v(mdls_index1),0,0.5,1,-0.25)
Vmdls_job1 mdls_job1 0 1
* a comment of the model
.subckt own p n g=1
+ h=2
Gown p n p n {g}
.ends own
.options reltol=1e-9 vntol=1e-15 klu
.options temp=26.85 tnom=26.85
.save i(vin)
.save v(mdls_job1)
.save all
.nodeset v(in)=0.5
.end
"""


PLAIN = GOOD.replace("* a comment of the model\n", "").replace("\n+ h=2", " h=2")
COMMANDS = """.control
set numdgt=15
set width=4096
optran 1 1 1 0 0 0
alter Vin dc = -0.25
op
echo vector 0
print i(vin)
set nobreak
tran 1e-09 2e-06 0 1e-08 uic
print col v(x.y#z)
quit
.endc
.end
"""


def test_a_stored_circuit_of_the_engine_passes():
    assert checked_circuit(GOOD, "data.h5") == PLAIN
    assert checked_circuit(GOOD.replace(".end\n", COMMANDS), "data.h5") == PLAIN.replace(".end\n", COMMANDS)


@pytest.mark.parametrize(
    "command",
    [
        "shell ls",
        "pre_osdi /tmp/x.osdi",
        "set sourcepath=(/)",
        "echo `ls`",
        "print i(vin) > file",
        "op; shell ls",
        "*",
        "alter vin dc = {x}",
        "echo vector 0 $x",
        "op\n.include x",
        "op\n.endc\n.include x",
        "source x",
        "quit\t",
        "@",
    ],
)
def test_a_stored_circuit_with_another_command_is_refused(command: str):
    text = GOOD.replace(".end\n", COMMANDS)
    for changed in (
        text.replace("\nop\n", f"\n{command}\n"),
        text + command,
        text.replace(".end\n", f"{command}\n.end\n"),
    ):
        with pytest.raises(DeckError):
            checked_circuit(changed, "data.h5")


def test_a_stored_circuit_loads_the_compiled_model_of_its_cell():
    text = GOOD.replace(".end\n", COMMANDS.replace("set numdgt=15", "pre_osdi /tmp/mine.osdi"))
    assert "pre_osdi" in checked_circuit(text, "data.h5", "/tmp/mine.osdi")
    with pytest.raises(DeckError, match="another command"):
        checked_circuit(text, "data.h5", "/tmp/other.osdi")


@pytest.mark.parametrize(
    "line",
    [
        ".control\nshell touch x\n.endc",
        "*# shell touch x",
        ".include /etc/passwd",
        ".model m d_process(process_file=x)",
        ".options rshunt=1 `x`",
        ".options reltol=1\n+ filetype=`y`",
        ".save i(vin) >file",
        ".save all\n.lib x",
        "Vmdls_job2 mdls_job2 0 {file}",
        "quit",
        "@",
        ".end\n.control",
        ".tran 1 2",
    ],
)
def test_a_stored_circuit_with_anything_else_is_refused(line: str):
    for text in (GOOD.replace(".save all", line), GOOD.replace("Vin in 0 0", line), f"{line}\n{GOOD}"):
        with pytest.raises(DeckError):
            checked_circuit(text, "data.h5")


def test_the_deck_of_a_failed_point_is_checked_before_it_is_written(tmp_path: Path):
    config = Characterization(tile=TileSpec(rows=1, cols=1), iv={"cells": 1}).as_dict()
    from mdls_cosim.characterize import Campaign

    label = Campaign(Characterization(**config)).points[0].label
    failures = [Failure("iv", label, "no solution", GOOD, "", 1)]
    Dataset.create({}, config, seed=0, failures=failures).save(tmp_path / "good.h5")
    said = CliRunner().invoke(app, ["deck", str(tmp_path / "good.h5"), "--point", "0"])
    assert said.stdout == PLAIN
    bad = [Failure("iv", label, "no solution", GOOD.replace(".end\n", ".control\nshell ls\n.endc\n.end\n"), "", 1)]
    Dataset.create({}, config, seed=0, failures=bad).save(tmp_path / "bad.h5")
    said = CliRunner().invoke(app, ["deck", str(tmp_path / "bad.h5"), "--point", "0", "--out", str(tmp_path / "o.cir")])
    assert said.exit_code == 2
    assert "another command" in " ".join(said.stderr.split())
    assert not (tmp_path / "o.cir").exists()


def test_decks_that_unfold_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from mdls_cosim import dataset

    config = Characterization(tile=TileSpec(rows=1, cols=1), iv={"cells": 1}).as_dict()
    path = written(tmp_path, config, deck="x" * 100_000)
    assert len(Dataset.load(path).failures[0].deck) == 100_000
    monkeypatch.setattr(dataset, "LARGEST_DECKS", 99_999)
    with pytest.raises(StoreError, match="decks of more than 99999 bytes"):
        Dataset.load(path)


@pytest.mark.parametrize("kind", sorted(DEVICES | CODE_MODELS))
def test_allowed_types_are_taken(kind: str):
    for rest in (f"{kind}(a=1)", f"{kind.upper()} a=1 b=2", kind, f"{kind} (a=1)"):
        form = f".MODEL m {rest}"
        assert definitions(f"{form}\n", "test") == ("m",)


@pytest.mark.ngspice
def test_no_allowed_code_model_has_a_parameter_that_names_a_file(tmp_path: Path):
    program = shutil.which("ngspice")
    if program is None:
        pytest.skip("there is no ngspice program, only the library")
    asked = "\n".join(f"devhelp {kind}" for kind in sorted(CODE_MODELS))
    (tmp_path / "t.cir").write_text(f"* t\nV1 a 0 1\nR1 a 0 1\n.control\n{asked}\nquit\n.endc\n.end\n")
    done = subprocess.run(
        [program, "-b", str(tmp_path / "t.cir")], capture_output=True, text=True, timeout=60, check=False
    )
    names = done.stdout.lower().split()
    assert {"rmin", "x_array"} <= set(names)
    assert [name for name in names if re.search("file|process|simulation", name)] == []


@pytest.mark.parametrize("name", model_names())
def test_every_model_of_the_library_passes_the_checks_of_users_models(name: str):
    assert name in definitions(name, "test")


def test_a_compiled_model_may_have_a_type_of_its_own_but_no_code_model(tmp_path: Path):
    text = ".subckt own p n g=1\nN1 p n mine\n.model mine my_module g={g}\n.ends\n"
    assert definitions(text, "test", compiled=True) == ("own",)
    for kind in ("d_process", "filesource", "d_new", "numd"):
        with pytest.raises(DeckError, match="refused"):
            definitions(text.replace("my_module", kind), "test", compiled=True)


def test_a_compiled_model_is_the_one_that_was_declared(tmp_path: Path):
    from mdls_cosim.tiles import tile_deck

    text = ".subckt own p n g=1\nN1 p n mine\n.model mine my_module g={g}\n.ends\n"
    (tmp_path / "a.osdi").write_bytes(b"one")
    cell = SubcircuitCell(**cell_table(text), osdi=str(tmp_path / "a.osdi"))
    assert tile_deck(TileSpec(rows=1, cols=1, cell=cell), [[1e-5]]).osdi == (str(tmp_path / "a.osdi"),)
    (tmp_path / "a.osdi").write_bytes(b"other")
    with pytest.raises(ConfigError, match="another compiled Verilog-A model"):
        tile_deck(TileSpec(rows=1, cols=1, cell=cell), [[1e-5]])
