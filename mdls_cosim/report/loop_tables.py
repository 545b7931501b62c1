"""Tables of a fit of loops: errors and states of branches, spread between devices and cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import error_percent

if TYPE_CHECKING:
    from mdls_cosim.calibrate import Branch
    from mdls_cosim.calibrate.random_effects import ParameterSpread, Spread

    Branches = Mapping[str, tuple[Branch, ...]]
    Errors = Mapping[str, Any]

BRANCHES = "Error of each branch, relative to its RMS current (out and back: to their own)"
STATES = "Measured / model near a voltage over the device"
SPREADS = "Spread: standard deviation of the factor or its logarithm (95 %), number"


def branch_table(branches: Branches, errors: Errors, held_out: Errors) -> Table | None:
    """Errors of each branch, relative to its RMS current, and of its sweeps out and back, relative to theirs."""
    rows = [
        (
            name, branch.sign, use, format_quantity(branch.rms_current, "A", 3), error_percent(branch.error),
            error_percent(branch.error_out), error_percent(branch.error_back),
        )
        for name, use, branch in _rows(branches, errors, held_out)
    ]  # fmt: skip
    return (
        Table(("Measurement", "Branch", "Use", "RMS current", "Error", "Out", "Back"), tuple(rows), 3) if rows else None
    )


def state_table(branches: Branches, errors: Errors, held_out: Errors) -> Table | None:
    """High-resistive state, on/off ratio and switching voltage of each branch: measured / model."""
    rows = []
    for name, _, branch in _rows(branches, errors, held_out):
        pair = (branch.measured, branch.modelled)
        rows.append(
            (
                name, format_quantity(branch.reference_voltage, "V", 3),
                _both([_quantity(each.high_resistive, "S") for each in pair]),
                _both(["–" if each.ratio is None else f"{each.ratio:.3g}" for each in pair]),
                _both([_quantity(each.switching_voltage, "V") for each in pair]),
            )
        )  # fmt: skip
    heads = ("Measurement", "At", "High-resistive state", "On/off ratio", "Switching voltage")
    return Table(heads, tuple(rows), 1) if rows else None


def spread_table(spread: Mapping[str, ParameterSpread]) -> Table | None:
    """Distributions of the parameters: center, and standard deviations of the factor with 95 % intervals."""
    rows = [
        (
            name, format_quantity(each.center, each.unit, 4) if each.unit else f"{each.center:.4g}", each.family,
            _spread(each.device_to_device), _spread(each.cycle_to_cycle),
        )
        for name, each in spread.items()
    ]  # fmt: skip
    heads = ("Parameter", "Center", "Family", "Device to device", "Cycle to cycle")
    return Table(heads, tuple(rows)) if rows else None


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    said = (
        f"{error_percent(spread.sigma)} ({error_percent(spread.low)} to {error_percent(spread.high)}), {spread.count}"
    )
    return said if spread.significant else f"{said}, none beyond the fits'"


def _rows(branches: Branches, errors: Errors, held_out: Errors) -> list[tuple[str, str, Branch]]:
    return [
        (name, use, branch)
        for use, names in (("fitted", errors), ("held out", held_out))
        for name in names
        for branch in branches.get(name, ())
    ]


def _quantity(value: float | None, unit: str) -> str:
    return "–" if value is None else format_quantity(value, unit, 3)


def _both(texts: Sequence[str]) -> str:
    return " / ".join(texts)
