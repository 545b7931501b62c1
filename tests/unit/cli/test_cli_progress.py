"""Progress of long work where standard error is no terminal: lines now and then."""

from __future__ import annotations

import pytest

from mdls_cosim.cli import terminal
from mdls_cosim.cli.terminal import progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_every_ten_seconds_and_at_the_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("ngspice", "points") as advance:
        for done in range(101):
            clock[0] = 0.25 * done
            advance(done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "ngspice: 40 of 100 points, 0:00:15 left",
        "ngspice: 80 of 100 points, 0:00:05 left",
        "ngspice: 100 of 100 points, in 0:00:25",
    ]


def test_work_without_a_unit_is_told_in_percent(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("fitting") as advance:
        clock[0] = 11.0
        advance(250, 1000)
    assert capsys.readouterr().err == "fitting: 25%, 0:00:33 left\n"


def test_what_fails_before_it_begins_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="bad"), progress_bar("fitting"):
        raise ValueError("bad")
    assert capsys.readouterr().err == ""
