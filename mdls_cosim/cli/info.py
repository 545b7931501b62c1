"""`mdls-cosim info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.cells import print_tile_lifetimes
from mdls_cosim.cli.files import check_input, content_of, parameter_set, size_of
from mdls_cosim.cli.terminal import print_line, print_pairs, print_table, print_title

if TYPE_CHECKING:
    from mdls_cosim.report import Table
    from mdls_cosim.store import Array, Group

SHOWN_FAILURES = 10


@app.command()
def info(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A Dataset, a surrogate, results, audit.json, or a parameter file."),
    ],
) -> None:
    """Say what is in a file and where it came from.

    Of a parameter set, by its file or its name: the equation, values with intervals, errors, lifetime, validity. Else
    arrays with units, axes and range; specification, domain and errors; lifetime of the cells' state at 0 V and at the
    read voltage; content hash, parents, tools, seed and time; points that failed, and why.

    \b
    Example:
      mdls-cosim info surrogate.h5
    """
    known = parameter_set(file)
    if not known:
        check_input(file)
    with content_of(file):
        if known:
            _print_card(file)
        elif file.suffix == ".json":
            _print_audit(file)
        else:
            _print_store(file)


def _print_store(file: Path) -> None:
    from mdls_cosim import store
    from mdls_cosim.report import settings_table, tool_table
    from mdls_cosim.report.configurations import described_dataset
    from mdls_cosim.report.device_card import origin_table, origins, outside_table, without_origins

    group = store.read(file)
    attributes = dict(group.attributes)
    provenance = attributes.pop("provenance", {})
    failures, outside = attributes.pop("failures", []), attributes.pop("outside", {})
    print_line(f"{file}: {group.encoding_type}, version {group.encoding_version}, {size_of(file)}", style="bold")
    print_table(_array_table(group), "Arrays")
    if "spec" in attributes:
        _print_surrogate(attributes)
    elif group.encoding_type == "mdls_cosim.pulse_surrogate":
        _print_pulse_surrogate(attributes)
    elif group.encoding_type == "mdls_cosim.simulation":
        _print_simulation(provenance.get("config", {}))
    else:
        # A Dataset's configuration is part of its provenance; other files carry their own attributes.
        print_pairs(settings_table(_variants(group)), "Variants")
        config = provenance.get("config", {})
        print_pairs(settings_table(described_dataset(config) | without_origins(attributes)), "Specification")
        if isinstance(config.get("tile"), dict):
            read = config.get("read")
            print_tile_lifetimes(config["tile"], read.get("voltage") if isinstance(read, dict) else None)
    for name, found in origins([attributes, provenance.get("config", {})]):
        print_pairs(origin_table(found), f"Parameter set {name}")
    print_table(outside_table(outside), "Uses of the parameter set beyond its measurements")
    if provenance:
        origin = {
            "content hash": provenance.get("content_hash"),
            "parents": ", ".join(provenance.get("parents", ())) or "none",
            "seed": provenance.get("seed"),
            "made (UTC)": provenance.get("created_utc"),
        }
        print_pairs(settings_table(origin), "Where it came from")
        print_pairs(tool_table(provenance.get("tools", {})), "Made with")
    if failures:
        _print_failures(failures, file, decks=group.encoding_type == "mdls_cosim.dataset")


def _print_card(file: Path) -> None:
    from mdls_cosim.report.device_card import device_card

    card = device_card(str(file))
    print_line(f"{file}: {card.title}", style="bold")
    print_line(card.equation)
    for caption, table in card.tables.items():
        (print_pairs if table.headings == ("Setting", "Value") else print_table)(table, caption)
    for note in card.notes:
        print_line(note if note.startswith("warning") else f"note: {note}")


def _print_audit(file: Path) -> None:
    from mdls_cosim.cli.audit import print_audit
    from mdls_cosim.quantities import format_quantity
    from mdls_cosim.report import read_audit, settings_table
    from mdls_cosim.report.configurations import described_tile

    found = read_audit(file)
    print_line(f"{file}: an audit, {size_of(file)}", style="bold")
    when = "at rest" if found["read_time"] is None else format_quantity(found["read_time"], "second")
    told = {**found["subject"], **{name: found[name] for name in ("vectors", "reference", "seed")}, "read time": when}
    print_pairs(settings_table(told), "What was audited")
    tile = found["reference_tile"]
    print_pairs(settings_table(described_tile(tile)) if tile else None, "Reference tile")
    print_audit(found)


def _print_surrogate(attributes: Mapping[str, Any]) -> None:
    from mdls_cosim.report import class_table, fit_table, fitted_parameters, settings_table
    from mdls_cosim.report.configurations import described
    from mdls_cosim.report.wording import error_percent
    from mdls_cosim.surrogates.domain import Domain

    spec = attributes["spec"]
    parameters = fitted_parameters(spec, attributes.get("reference_spec"))
    print_table(fit_table(parameters), f"Fitted tile, {attributes.get('kind', '')} surrogate")
    stored = attributes.get("domain") or {}
    limits = described(Domain, stored)
    domain = {name: limits.get(name, "any") for name in stored} | limits
    print_pairs(settings_table(domain), "Domain (uses outside it are counted)")
    error = attributes.get("error")
    if error:
        print_table(class_table(error), "RMS error on held-out tiles, of the RMS current")
        totals = {name: error_percent(error.get(name)) for name in ("rms", "p99", "bound")}
        print_pairs(settings_table(totals), "Error over all classes")
    print_pairs(settings_table(attributes.get("coefficients") or {}), "Coefficients")
    print_tile_lifetimes(spec, (attributes.get("domain") or {}).get("input_voltage"))


def _print_pulse_surrogate(attributes: Mapping[str, Any]) -> None:
    from mdls_cosim.report import settings_table
    from mdls_cosim.report.configurations import described
    from mdls_cosim.report.wording import error_percent
    from mdls_cosim.surrogates.pulses import PulseDomain

    print_pairs(
        settings_table(described(PulseDomain, attributes.get("domain") or {})), "Domain (uses outside it are counted)"
    )
    error = dict(attributes.get("error") or {})
    if error:
        shown = {name: error_percent(error.get(name)) for name in ("train", "worst", "step")}
        print_pairs(
            settings_table({**shown, "held out": error.get("held_out")}), "Error on held-out trains, of the range"
        )
    print_pairs(settings_table({"spread of the speed": attributes.get("spread")}), "From cycle to cycle")


def _print_simulation(config: Mapping[str, Any]) -> None:
    from mdls_cosim.report import settings_table
    from mdls_cosim.report.configurations import described_hardware, described_simulation
    from mdls_cosim.report.experiment import field_words

    axes = [axis for sweep in config["sweeps"].values() for axis in sweep]
    sweeps = {field_words(axis["name"]): ", ".join(axis["texts"]) for axis in axes}
    print_pairs(settings_table({"layers": config["layers"], **config["subject"]}), "Network and data")
    print_pairs(settings_table(sweeps), "Swept")
    print_pairs(settings_table(described_simulation(config["simulation"])), "Experiment")
    hardware = config.get("hardware") or {}
    print_pairs(settings_table(described_hardware(hardware)), "Base hardware")
    tile = hardware.get("tile") or {}
    effects = (hardware.get("variability") or {}).get("effects", ())
    computed = {each.get("effect") for each in effects}
    print_tile_lifetimes(tile.get("spec", tile), hardware.get("read_voltage"), computed)


def _print_failures(failures: Sequence[Mapping[str, Any]], file: Path, decks: bool) -> None:
    print_title(f"Failed points: {len(failures)}, NaN in the arrays")
    for failure in failures[:SHOWN_FAILURES]:
        tries = f" ({failure['attempts']} attempts)" if failure["attempts"] > 1 else ""
        print_line(f"{failure['label']}{tries}: {failure['cause']}", style="red")
    if len(failures) > SHOWN_FAILURES:
        print_line(f"and {len(failures) - SHOWN_FAILURES} more")
    if decks:
        print_line(f'their circuits: mdls-cosim deck {file} --point "{failures[0]["label"]}"')


def _variants(group: Group) -> dict[str, str]:
    """The tiles of every experiment that ran on several."""
    found: dict[str, list[str]] = {}
    for name in group.groups:
        experiment, _, variant = name.partition(" ")
        if variant:
            found.setdefault(experiment, []).append(variant)
    return {experiment: ", ".join(variants) for experiment, variants in found.items()}


def _array_table(group: Group) -> Table | None:
    from mdls_cosim.report import Table

    rows = tuple((name, *_described(array)) for name, array in _arrays(group))
    return Table(("Array", "Axes", "Unit", "Type", "Lowest", "Highest"), rows, names=4) if rows else None


def _arrays(group: Group, prefix: str = "") -> Iterator[tuple[str, Array]]:
    for name, array in group.arrays.items():
        yield f"{prefix}{name}", array
    for name, part in group.groups.items():
        yield from _arrays(part, f"{prefix}{name}/")


def _described(array: Array) -> tuple[str, ...]:
    values = array.values
    known = values[values == values]  # failed points are NaN
    axes = (
        ", ".join(f"{name} {length}" for name, length in zip(array.dims, values.shape, strict=True)) or "single value"
    )
    ends = (f"{known.min():.4g}", f"{known.max():.4g}") if known.size and values.dtype.kind in "iuf" else ("–", "–")
    return axes, array.units or "1", str(values.dtype), *ends
