"""A ranking that is interrupted keeps the fits that are done, and continues with the others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdls_cosim.calibrate import ranking
from mdls_cosim.calibrate.agreement import Branch, States
from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.ranking import rank
from mdls_cosim.calibrate.ranking_file import ranking_key
from mdls_cosim.devices import LinearIonDrift, Vteam, Yakopcic
from mdls_cosim.devices.variability import CycleToCycle, Lognormal
from mdls_cosim.errors import StoreError

DEVICES: dict[str, Any] = {
    "vteam": Vteam(on_resistance=2e3 / 3, reversed=True),
    "yakopcic": Yakopcic(),
    "linear_ion_drift": LinearIonDrift(),
}
ANGLE = np.linspace(0, 2 * np.pi, 50)
LOOP = Loop("a.csv", ANGLE, np.sin(ANGLE), 1e-4 * np.sin(ANGLE))


def fit_of(model: str, error: float) -> LoopFit:
    branch = Branch(
        sign="positive", points=25, rms_current=1e-5 / 3, error=error, reference_voltage=0.1,
        measured=States(high_resistive=1e-6), modelled=States(),
    )  # fmt: skip
    return LoopFit(
        device=DEVICES[model], values={"on_resistance": 2e3 / 3}, intervals={"on_resistance": (1e3 / 3, 1e4 / 3)},
        determined={"on_resistance": True}, method="hessian", errors={"a.csv": error}, held_out={"b.csv": error},
        modelled={"a.csv": error * np.arange(3.0)}, starts={"a.csv": 1 / 3}, parallel_capacitance=1e-12 / 3,
        branches={"a.csv": (branch,), "b.csv": (branch,)}, misfit=error, covariance=np.eye(2) / 3, points=50,
        variability=(CycleToCycle(distribution=Lognormal(sigma=0.1)),), notes=("a note",),
    )  # fmt: skip


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models that were fitted, in order; a fit of "linear_ion_drift" is interrupted while it is in "interrupt"."""
    done: list[str] = []

    def fit(loops: Any, model: str, **settings: Any) -> LoopFit:
        if model == "linear_ion_drift" and not done.count("again"):
            raise KeyboardInterrupt
        done.append(model)
        return fit_of(model, {"vteam": 0.3, "yakopcic": 0.1, "linear_ion_drift": 0.2}[model])

    monkeypatch.setattr(ranking, "fit_loops", fit)
    return done


def start(path: Path, resume: bool = False, **settings: Any) -> list[LoopFit]:
    other = dataclasses.replace(LOOP, name="b.csv")
    return rank([LOOP], [other], devices=tuple(DEVICES), keep=path, resume=resume, **settings)


def test_an_interrupted_ranking_continues_with_the_models_that_are_left(tmp_path: Path, fitted: list[str]) -> None:
    path = tmp_path / "ranking.json"
    with pytest.raises(KeyboardInterrupt):
        start(path)
    partial = json.loads(path.read_text())["ranking"]
    assert [(each["model"], each["held_out_branches"]) for each in partial] == [("vteam", 0.3), ("yakopcic", 0.1)]
    assert [each.name for each in tmp_path.iterdir()] == ["ranking.json"]
    fitted.append("again")
    order = start(path, resume=True)
    assert fitted == ["vteam", "yakopcic", "again", "linear_ion_drift"]
    assert [fit.device for fit in order] == [DEVICES[name] for name in ("yakopcic", "linear_ion_drift", "vteam")]
    # What was kept is what was fitted, to the last bit.
    kept, made = order[2], fit_of("vteam", 0.3)
    for field in dataclasses.fields(LoopFit):
        one, other = getattr(kept, field.name), getattr(made, field.name)
        if field.name == "modelled":
            one, other = one["a.csv"], other["a.csv"]
        np.testing.assert_array_equal(one, other, err_msg=field.name)


def test_without_resume_a_ranking_begins_anew(tmp_path: Path, fitted: list[str]) -> None:
    fitted.append("again")
    start(tmp_path / "ranking.json")
    start(tmp_path / "ranking.json")
    assert fitted.count("vteam") == 2
    start(tmp_path / "absent.json", resume=True)  # nothing to continue: from the beginning
    assert fitted.count("vteam") == 3


def test_other_data_or_settings_are_not_continued(tmp_path: Path, fitted: list[str]) -> None:
    fitted.append("again")
    path = tmp_path / "ranking.json"
    start(path)
    with pytest.raises(StoreError, match="other data, settings"):
        start(path, resume=True, seed=1)
    with pytest.raises(StoreError, match="other data, settings"):
        rank([dataclasses.replace(LOOP, currents=1.001 * LOOP.currents)], devices=["vteam"], keep=path, resume=True)
    keys = {
        ranking_key([LOOP], [], {}),
        ranking_key([], [LOOP], {}),
        ranking_key([LOOP], [], {"seed": 1}),
        ranking_key([dataclasses.replace(LOOP, series_resistance=1.0)], [], {}),
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", '{"format": "mdls-cosim ranking 1"}', "\x00", "[" * 5000, '{"format": 3}']
)
def test_a_file_that_is_no_ranking_is_one_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ranking.json"
    path.write_text(content)
    with pytest.raises(StoreError) as caught:
        start(path, resume=True)
    assert len(str(caught.value)) <= 300


def test_fits_that_were_tampered_with_are_one_error(tmp_path: Path, fitted: list[str]) -> None:
    fitted.append("again")
    path = tmp_path / "ranking.json"
    start(path)
    whole = json.loads(path.read_text())
    for change in ({"device": 3}, {"device": {"model": "vteam", "on_resistance": -1.0}}, {"branches": {"a": [1]}},
                   {"modelled": "x"}, {"unknown": 1}, {"variability": [{}]}):  # fmt: skip
        changed = {**whole, "fits": {"vteam": {**whole["fits"]["vteam"], **change}}}
        path.write_text(json.dumps(changed))
        with pytest.raises(StoreError, match=r"cannot|can be continued"):
            start(path, resume=True)
