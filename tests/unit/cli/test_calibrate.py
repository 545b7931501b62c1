"""`mdls-cosim calibrate` as a user meets it: what it prints, writes and refuses. Loops are fitted by a stand-in."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mdls_cosim.calibrate.ranking  # noqa: F401  it takes fit_loops by name, and is not to take a stand-in
from mdls_cosim import cli
from mdls_cosim.calibrate import Calibration, Loop, ranking
from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.devices import Vteam

PNG = b"\x89PNG"


RANK = ranking.rank


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `mdls-cosim calibrate ARGUMENTS`."""
    result = CliRunner().invoke(cli.app, ["calibrate", *(str(each) for each in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout.replace("\u00a0", " "), result.stderr


def loop_file(path: Path, cycles: int = 1, header: str = "time [s],voltage [V],current [uA]") -> Path:
    times = np.arange(100 * cycles) * 1e-3
    voltages = np.sin(2 * np.pi * 10 * times)
    columns = [times, voltages, 100 * voltages][-header.count(",") - 1 :]
    np.savetxt(
        path, np.stack(columns, axis=1), delimiter=",", header=header, comments="", footer=f"# {path.name}"
    )  # two files of the same content are refused
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the fit of loops was asked for; it answers at once, with a model 2 % below what was measured."""
    calls: list[dict[str, Any]] = []

    def fit(loops: Sequence[Loop], device: str, *, held_out: Sequence[Loop] = (), **settings: Any) -> LoopFit:
        calls.append({"loops": loops, "device": device, "held_out": held_out, **settings})
        settings["progress"](1, 1)
        return LoopFit(
            device=Vteam(on_resistance=2e3),
            values={"on_resistance": 2e3, "on_exponent": 4.0, "series_resistance": 50.0},
            intervals={"on_resistance": (1900.0, 2100.0), "on_exponent": (1.0, 20.0), "series_resistance": (40, 60)},
            determined={"on_resistance": True, "on_exponent": False, "series_resistance": True},
            method="hessian",
            errors={loop.name: 0.02 for loop in loops},
            held_out={loop.name: 0.03 for loop in held_out},
            modelled={loop.name: 0.98 * loop.currents for loop in (*loops, *held_out)},
            starts={loop.name: 0.0 for loop in (*loops, *held_out)},
            misfit=0.1,
            points=100,
            notes=("a note",),
        )

    def rank(loops: Sequence[Loop], held_out: Sequence[Loop] = (), **settings: Any) -> list[LoopFit]:
        return [fit(loops, "all", held_out=held_out, **settings)] * 2

    monkeypatch.setattr("mdls_cosim.calibrate.loops.fit_loops", fit)
    monkeypatch.setattr("mdls_cosim.calibrate.ranking.rank", rank)
    return calls


class TestLoops:
    def test_a_loop(self, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
        out = tmp_path / "mine.toml"
        code, said, _ = run(loop_file(tmp_path / "loop.csv"), "--device", "vteam", "--out", out, "--seed", "5")
        assert code == 0
        lines = [" ".join(line.split()) for line in said.splitlines()]
        assert "On resistance 2 kohm 1.9 kohm 2.1 kohm" in lines
        assert "On exponent 4 not determined by these data" in lines
        assert "Series resistance 50 ohm 40 ohm 60 ohm" in lines
        assert "loop.csv fitted 2.00 %" in lines
        assert "note: a note" in lines
        assert "error: fitted 2.00 %, nothing was held out" in lines
        assert any(line.startswith("Lifetime of the state, by the device's own equation") for line in lines)
        assert any(line.startswith("at 0 V ") for line in lines)
        assert lines[-1].startswith(f"wrote {out}")
        assert (tmp_path / "mine.png").read_bytes().startswith(PNG)
        found = Calibration.load(out)
        assert found.device == Vteam(on_resistance=2e3)
        assert found.validity["current"][1] == pytest.approx(1e-4)
        assert found.seed == 5
        assert found.files["loop.csv"].startswith("sha256:")
        (call,) = asked
        assert (call["device"], call["seed"], call["bootstrap"], call["series_resistance"]) == ("vteam", 5, 0, None)

    def test_hold_out_and_ranking(self, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
        one, two = loop_file(tmp_path / "one.csv"), loop_file(tmp_path / "two.csv")
        code, said, _ = run(one, "--hold-out", two, "--out", tmp_path / "mine.toml", "--plot", tmp_path / "over.png")
        assert code == 0
        assert "two.csv" in said
        assert "held out 3.00 %" in said
        assert "Ranking" in said
        assert (tmp_path / "over.png").is_file()
        assert asked[0]["device"] == "all"
        assert [loop.name for loop in asked[0]["held_out"]] == ["two.csv"]

    def test_last_cycles_are_held_out(self, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
        path = loop_file(tmp_path / "loop.csv", cycles=8)
        assert run(path, "--device", "vteam", "--out", tmp_path / "1.toml")[0] == 0
        assert run(path, "--device", "vteam", "--cycles-held-out", "3", "--out", tmp_path / "2.toml")[0] == 0
        assert run(path, "--device", "vteam", "--cycles-held-out", "0", "--out", tmp_path / "3.toml")[0] == 0
        for call, count in zip(asked, (2, 3, 0), strict=True):
            (fitted,) = call["loops"]
            assert len(fitted.cycles) == 8 - count
            if count:
                (spared,) = call["held_out"]
                assert spared.follows == "loop.csv"
                assert spared.name == f"loop.csv, last {count} of 8 cycles"
                assert len(spared.cycles) == count
                assert spared.times[0] > fitted.times[-1]
            else:
                assert not call["held_out"]
        code, _, error = run(path, "--device", "vteam", "--cycles-held-out", "8", "--out", tmp_path / "4.toml")
        assert code == 2
        assert "more cycles to hold out than there are" in error

    def test_every_third_file_is_held_out_to_rank(self, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
        files = [loop_file(tmp_path / f"{name}.csv") for name in "abcde"]
        assert run(*files, "--out", tmp_path / "mine.toml")[0] == 0
        assert [loop.name for loop in asked[0]["loops"]] == ["a.csv", "b.csv", "d.csv", "e.csv"]
        assert [loop.name for loop in asked[0]["held_out"]] == ["c.csv"]

    def test_series_resistance(self, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
        path = loop_file(tmp_path / "loop.csv", header="time [s],applied voltage [V],current [uA]")
        code, _, error = run(path, "--device", "vteam", "--out", tmp_path / "1.toml")
        assert code == 2
        assert "--series-resistance" in error
        for number, given in enumerate(("5 kohm", "fit")):
            out = tmp_path / f"out{number}.toml"
            assert run(path, "--device", "vteam", "--out", out, "--series-resistance", given)[0] == 0
        assert asked[0]["loops"][0].series_resistance == 5e3
        assert (asked[0]["series_resistance"], asked[1]["series_resistance"]) == (None, "fit")

    def test_a_settled_loop_is_one_period(self, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
        open_ended = loop_file(tmp_path / "open.csv")  # its next point would be its first again
        values = np.genfromtxt(open_ended, delimiter=",", skip_header=1)
        closed = tmp_path / "closed.csv"
        np.savetxt(closed, np.vstack([values, [0.1, *values[0, 1:]]]), delimiter=",",
                   header="time [s],voltage [V],current [uA]", comments="")  # fmt: skip
        code, _, error = run(open_ended, closed, "--settled", "--device", "vteam", "--out", tmp_path / "out.toml")
        assert code == 0, error
        for loop in asked[0]["loops"]:
            assert loop.periodic
            assert len(loop.times) == 100
            assert loop.period == pytest.approx(0.1)
        assert run(open_ended, "--device", "vteam", "--out", tmp_path / "not.toml")[0] == 0
        assert not asked[1]["loops"][0].periodic

    def test_a_given_resistor_is_told(self, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
        path = loop_file(tmp_path / "loop.csv", header="time [s],applied voltage [V],current [uA]")
        out = tmp_path / "out.toml"
        assert run(path, "--device", "vteam", "--series-resistance", "47 kohm", "--out", out)[0] == 0
        assert "fitted behind 47 kohm, as given" in Calibration.load(out).notes

    def test_list_of_files(self, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
        for name in ("a.csv", "b.csv"):
            loop_file(tmp_path / name, header="applied voltage [V],current [uA]")
        listed = tmp_path / "list.toml"
        listed.write_text(
            '[[measured]]\nfile = "a.csv"\nfrequency = "10 Hz"\n'
            '[[measured]]\nfile = "b.csv"\nfrequency = "100 Hz"\nseries_resistance = "1 kohm"\nhold_out = true\n'
        )
        code, said, error = run(
            listed, "--device", "vteam", "--series-resistance", "5 kohm", "--out", tmp_path / "o.toml"
        )
        assert code == 0, error
        (a,), (b,) = asked[0]["loops"], asked[0]["held_out"]
        assert (a.period, a.series_resistance, b.period, b.series_resistance) == (0.1, 5e3, 0.01, 1e3)
        assert "times rebuilt from the phase of its sine" in said
        listed.write_text('[[measured]]\nfile = "a.csv"\nfrequency = 10\n')
        code, _, error = run(listed, "--out", tmp_path / "p.toml")
        assert code == 2
        assert "measured[0]: frequency" in error
        assert "a number without its unit" in error
        listed.write_text("[tile]\nrows = 3\n")
        code, _, error = run(listed, "--out", tmp_path / "p.toml")
        assert code == 2
        assert "no list of measurements" in error


class TestResume:
    """`--device auto` keeps each fit that is done."""

    @pytest.fixture
    def fitted(self, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Models that were fitted; the third of a run is interrupted unless "whole" is among them."""
        done: list[str] = []
        fit = sys.modules["mdls_cosim.calibrate.loops"].fit_loops

        def interrupted(loops: Sequence[Loop], device: str, **settings: Any) -> LoopFit:
            if len(done) == 2 and "whole" not in done:
                raise KeyboardInterrupt
            done.append(device)
            return fit(loops, device, **settings)

        monkeypatch.setattr(ranking, "fit_loops", interrupted)
        monkeypatch.setattr("mdls_cosim.calibrate.ranking.rank", RANK)
        return done

    def test_an_interrupted_ranking_says_how_to_go_on_and_goes_on(self, tmp_path: Path, fitted: list[str]) -> None:
        path, out = loop_file(tmp_path / "loop.csv"), tmp_path / "mine.toml"
        code, _, error = run(path, "--out", out)
        assert code == 130
        assert "2 fitted models (metastable_switch, yakopcic)" in error
        assert "--resume" in error
        assert not out.exists()
        assert (tmp_path / "mine.ranking.json").is_file()
        code, _, error = run(path, "--out", out)
        assert code == 2
        assert "an interrupted ranking is here" in error
        fitted.append("whole")
        code, said, error = run(path, "--out", out, "--resume")
        assert code == 0, error
        assert fitted[:4] == ["metastable_switch", "yakopcic", "whole", "vteam"]
        assert "yakopcic) are in" in said
        assert len(Calibration.load(out).ranking) == 6
        assert not (tmp_path / "mine.ranking.json").exists()

    def test_other_settings_are_not_continued_and_force_begins_anew(self, tmp_path: Path, fitted: list[str]) -> None:
        path, out = loop_file(tmp_path / "loop.csv"), tmp_path / "mine.toml"
        assert run(path, "--out", out)[0] == 130
        code, _, error = run(path, "--out", out, "--resume", "--seed", "7")
        assert code == 2
        assert "other data, settings" in error
        fitted.append("whole")
        assert run(path, "--out", out, "--force")[0] == 0
        assert fitted.count("metastable_switch") == 2
        code, _, error = run(path, "--out", out, "--force", "--resume", "--device", "vteam")
        assert code == 2
        assert "--device auto" in error


class TestOthers:
    def test_pulses(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        up = np.cumsum(np.full((60, 5), 1e-7) + 1e-9 * generator.standard_normal((60, 5)), axis=0)
        path = tmp_path / "ramps.csv"
        np.savetxt(path, np.hstack([up, up[::-1]]) * 0.1, delimiter=",")
        out = tmp_path / "pulses.toml"
        code, said, error = run(
            path, "--columns", "current [A], ...", "--read-voltage", "0.1 V", "--bootstrap", "5", "--out", out
        )
        assert code == 0, error
        assert "ramps.csv, down, 1 of 5 ramps" in said
        content = tomllib.loads(out.read_text())
        assert content["device"]["model"] == "ohmic"
        assert content["pulses"]["raising"]["coefficients"][0] > 0 > content["pulses"]["lowering"]["coefficients"][0]
        assert (tmp_path / "pulses.png").read_bytes().startswith(PNG)

    def test_levels_beside_a_device_whose_other_spread_is_kept(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        targets = np.repeat([10.0, 20.0, 30.0], 20)
        path = tmp_path / "levels.csv"
        found = targets + generator.standard_normal(60)
        np.savetxt(path, np.stack([targets, found], axis=1), delimiter=",", header="target [uS],conductance [uS]",
                   comments="")  # fmt: skip
        times = np.tile(np.geomspace(1, 1000, 10), 3)
        drift = tmp_path / "drift.csv"
        values = 20 * times**-0.05 * (1 + 0.01 * generator.standard_normal(30))
        np.savetxt(drift, np.stack([np.repeat([0, 1, 2], 10), times, values], axis=1), delimiter=",",
                   header="device,time [s],conductance [uS]", comments="")  # fmt: skip
        code, _, error = run(drift, "--device", "vteam_kvatinsky_b", "--out", tmp_path / "first.toml")
        assert code == 0, error
        code, said, error = run(path, "--device", tmp_path / "first.toml", "--out", tmp_path / "second.toml")
        assert code == 0, error
        # A spread of 1 uS at every level.
        (row,) = [line.split() for line in said.splitlines() if line.startswith("P0")]
        assert row[2] in ("nS", "µS")
        assert "device beside which they are told shows" not in said
        found = Calibration.load(tmp_path / "second.toml")
        assert found.device == Vteam(parameters="vteam_kvatinsky_b")  # pyright: ignore[reportCallIssue]
        assert found.variability is not None
        kinds = [effect.effect for effect in found.variability.effects]
        assert sorted(kinds) == ["drift", "finite_states", "programming_error", "read_noise"]
        narrow = tmp_path / "narrow.toml"
        code, said, error = run(path, "--device", "polynomial_read", "--out", narrow)
        assert code == 0, error
        notes = [note.replace("\u00a0", " ") for note in Calibration.load(narrow).notes]
        assert any(note.endswith("they are told shows 50 µS to 225 µS") for note in notes), notes
        code, _, error = run(path, "--device", "absent", "--out", tmp_path / "third.toml")
        assert code == 2
        assert "absent" in error


class TestRefusals:
    def test_files(self, tmp_path: Path) -> None:
        path = loop_file(tmp_path / "loop.csv")
        out = tmp_path / "out.toml"
        for arguments, message in (
            ((tmp_path / "absent.csv", "--out", out), "no such file"),
            ((tmp_path, "--out", out), "are those of one model"),
            ((path, "--out", tmp_path / "no" / "out.toml"), "output folder does not exist"),
            ((path, "--out", path), "exists"),
            ((path, "--out", path, "--force", "--plot", tmp_path / "p.png"), "would replace the input"),
            ((path, "--out", out, "--plot", tmp_path / "p.jpg"), "not a kind of plot"),
            ((path, "--out", out, "--frequency", "10"), "a number without its unit"),
            ((path, "--out", out, "--frequency", "10 V"), "wrong dimension"),
            ((path, "--out", out, "--kind", "sweep"), "kind"),
            ((path, "--out", out, "--columns", "voltage [V]"), "do not fit the file"),
            ((path, "--out", out, "--device", "nothing"), "no model that loops are fitted with"),
            ((path, "--out", out, "--device", "vtem"), "Did you mean vteam?"),
            ((path, path, "--device", "vteam", "--out", out), "A loop is fitted or held out, not both"),
            ((path, "--out", out, "--kind", "levels"), "currents without their read voltage"),
        ):
            code, _, error = run(*arguments)
            assert (code, error.count("\n")) == (2, 1) or "fitting" in error, error
            assert message in error
            assert not out.exists()
        (tmp_path / "out.png").touch()
        code, _, error = run(path, "--out", out)
        assert code == 2
        assert "out.png" in error

    def test_a_loop_that_does_not_switch(self, tmp_path: Path) -> None:
        code, _, error = run(loop_file(tmp_path / "loop.csv"), "--device", "vteam", "--out", tmp_path / "out.toml")
        assert code == 2
        assert "a loop that does not switch" in error

    @pytest.mark.parametrize("option", [[], ["--hold-out"]])
    def test_a_copy_is_no_other_measurement(self, tmp_path: Path, option: list[str]) -> None:
        one, copy = loop_file(tmp_path / "one.csv"), tmp_path / "copy.csv"
        copy.write_bytes(one.read_bytes())
        code, _, said = run(one, *option, copy, "--device", "vteam", "--out", tmp_path / "mine.toml")
        assert code == 2
        assert "two files of the same content" in said
        assert "copy.csv" in said
        assert "one.csv" in said

    def test_kinds_do_not_mix(self, tmp_path: Path) -> None:
        drift = tmp_path / "drift.csv"
        np.savetxt(drift, np.stack([np.geomspace(1, 99, 9)] * 2, axis=1), delimiter=",",
                   header="time [s],conductance [uS]", comments="")  # fmt: skip
        code, _, error = run(drift, loop_file(tmp_path / "loop.csv"), "--out", tmp_path / "out.toml")
        assert code == 2
        assert "measurements of one kind" in error

    def test_an_interrupted_fit_leaves_nothing(
        self, tmp_path: Path, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*arguments: Any, **settings: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("mdls_cosim.calibrate.loops.fit_loops", stop)
        path = loop_file(tmp_path / "loop.csv")
        code, _, error = run(path, "--device", "vteam", "--out", tmp_path / "out.toml")
        assert code == 130
        assert "no file was written" in error
        assert [each.name for each in tmp_path.iterdir()] == ["loop.csv"]
