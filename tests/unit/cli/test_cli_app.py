"""The application: one line for every error, exit codes, quick start."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.errors import ConfigError, DomainWarning, SpiceCrash

INFO = importlib.import_module("mdls_cosim.cli.info")
"""The module whose first step the tests below replace; `cli.info` names it too, but not for the type checker."""


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def failing_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """`info` raises `error`."""

    def fail(_path: Path) -> Path:
        raise error

    monkeypatch.setattr(INFO, "check_input", fail)


def test_help_names_every_command_in_order(runner: CliRunner) -> None:
    result = runner.invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    after = result.output.partition("Commands:")[2]
    names = [line.split()[0] for line in after.splitlines() if line.strip()]
    wanted = ["doctor", "demo", "characterize", "deck", "fit", "validate", "info"]
    assert [name for name in wanted if name in names] == [name for name in names if name in wanted]
    assert {"doctor", "characterize", "deck", "fit", "validate", "info"} <= set(names)
    assert "..." not in after  # every first sentence fits


@pytest.mark.parametrize("command", ["doctor", "characterize", "deck", "fit", "validate", "info"])
def test_every_command_has_help(command: str, runner: CliRunner) -> None:
    result = runner.invoke(cli.app, [command, "-h"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_version(runner: CliRunner) -> None:
    result = runner.invoke(cli.app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("mdls-cosim ")


def test_a_use_outside_a_domain_is_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back afterwards
    monkeypatch.setattr(
        importlib.import_module("mdls_cosim.cli.app"),
        "app",
        lambda **_: warnings.warn("beyond", DomainWarning, stacklevel=1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.main()
    assert capsys.readouterr().err == "warning: beyond\n"


def test_own_errors_are_one_line_on_standard_error(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(ConfigError("an impossible value " + "x" * 300, where="[tile]\nrows", value=0), monkeypatch)
    result = runner.invoke(cli.app, ["info", "some.h5"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: an impossible value xxx")
    assert result.stderr.endswith("at [tile] rows: got 0\n")


def test_debug_shows_traceback_and_what_ngspice_said(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(SpiceCrash("the worker died", log="singular matrix at row3_col5"), monkeypatch)
    result = runner.invoke(cli.app, ["--debug", "info", "some.h5"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "singular matrix at row3_col5" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: the worker died"


def test_errors_of_the_system_are_one_line(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(PermissionError(13, "Permission denied", "some.h5"), monkeypatch)
    result = runner.invoke(cli.app, ["info", "some.h5"])
    assert result.exit_code == 2
    assert result.stderr == "error: Permission denied at some.h5\n"


def test_interrupt_is_one_line(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(KeyboardInterrupt(), monkeypatch)
    result = runner.invoke(cli.app, ["info", "some.h5"])
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted; no file was written\n"


def test_defect_keeps_its_traceback_and_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_with(ZeroDivisionError("by zero"), monkeypatch)
    monkeypatch.setattr(sys, "argv", ["mdls-cosim", "info", "some.h5"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer replaces it; put back afterwards
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 3
    said = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in said
    assert "please report" in said


def test_answer_no_keeps_its_exit_code(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(typer.Exit(1), monkeypatch)
    assert runner.invoke(cli.app, ["info", "some.h5"]).exit_code == 1


@pytest.mark.parametrize("arguments", [["frobnicate"], ["info"], ["info", "a.h5", "--nonsense"], []])
def test_wrong_usage(arguments: list[str], runner: CliRunner) -> None:
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.output


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys, mdls_cosim.cli\n"
        "print([name for name in ('torch', 'PySpice', 'matplotlib', 'scipy', 'numpy', 'pint', 'h5py', 'rich')"
        " if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_module_is_the_program() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "mdls_cosim", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("mdls-cosim ")
