"""A deck: the text of one circuit as a value, which sorts, compares, hashes and runs alone."""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from mdls_cosim.errors import DeckError, InputError
from mdls_cosim.spice.elements import checked_elements, format_number, normal_vector, spice_number
from mdls_cosim.spice.library import definitions, model_text
from mdls_cosim.spice.transient import Waves

__all__ = ["TOLERANCES", "Deck", "checked_values", "checked_waves"]

# Tight enough for 1e-9 on non-linear tiles (the defaults are up to 1.7e-4 off in sweeps). Never rshunt: it leaks.
TOLERANCES = "reltol=1e-9 vntol=1e-15 abstol=1e-18 gmin=1e-15"

_ZERO_CELSIUS = 273.15  # [K]
_GROUND = {"0", "gnd"}
_PLAIN_PATH = re.compile(r"[\w./+@%=,-]+")
_PROBE = re.compile(r"([iv])\(([^\s()]+)\)")


@dataclass(frozen=True)
class Deck:
    """One circuit, its driven sources and what to read of it.

    title:       one line; it is what an error names as the place
    elements:    element lines ("Rrow0_1 row0_col1 row0_col2 1"); kept sorted, each name once
    models:      names of .sub files of the library, or whole texts of such files (two lines at least); the text
                 becomes part of the deck, which so runs alone
    sources:     voltage sources ("Vrow0") whose values [V] are set per operating point; declared as `Vrow0 + - 0`
    probes:      vectors to read: "i(vcol0)" (current into the + terminal) [A], "v(row3_col5)" [V]
    balance:     all voltage sources tied to ground ("vcol0" or "i(vcol0)"): Kirchhoff's law says that their
                 currents into ground sum to zero, and the engine checks it. Empty: not checked
    temperature: [K]; the parameters of ngspice's own models hold at 300 K, and follow it from there
    osdi:        paths of compiled Verilog-A models (OSDI), loaded before the circuit
    initial:     (net, voltage [V]) at the beginning of a transient from rest, for capacitors that have no ic=

    A capacitor is a line `Cname + - value [ic=x]` with plain numbers [F], [V].
    Raises DeckError for what ngspice would take silently: a resistor of zero (1 mOhm there), a number that is not
    finite, commands, continuation lines, a name given twice, sources and probes that are not in the circuit.
    """

    title: str
    elements: tuple[str, ...]
    models: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    balance: tuple[str, ...] = ()
    temperature: float = 300.0
    osdi: tuple[str, ...] = ()
    initial: tuple[tuple[str, float], ...] = ()
    by_name: dict[str, str] = field(init=False, repr=False, compare=False)  # element lines by lower-case name

    def __post_init__(self) -> None:
        if not isinstance(self.title, str) or not self.title.strip() or not self.title.isprintable():
            raise DeckError("the title of a deck must be one line of text", value=self.title)
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise DeckError("temperature", where=self.title, value=f"{self.temperature} K", limit="above 0 K, finite")
        for name in ("elements", "models", "sources", "probes", "balance", "osdi"):
            if isinstance(getattr(self, name), str):
                raise DeckError(f"{name} must be a sequence of strings, not one string", where=self.title)
        self._set("temperature", float(self.temperature))
        self._set("by_name", checked_elements(tuple(self.elements), self.title))
        self._set("elements", tuple(self.by_name.values()))
        self._set("models", tuple(sorted(set(self.models))))
        self._set("sources", tuple(self.sources))
        self._set("probes", tuple(normal_vector(probe) for probe in self.probes))
        self._set("balance", tuple(_branch_current(name) for name in self.balance))
        self._set("osdi", tuple(str(Path(path)) for path in self.osdi))
        self._check_models()
        self._check_names()
        for names in (self.sources, self.probes, self.balance):
            for name in names:
                self._check_known(name)
        for net, _ in self.initial:
            self._check_known(f"v({net.lower()})")
        for name in self.balance:
            self.ground_sign(name)

    # --- text -------------------------------------------------------------------------------------------------

    def circuit_text(self, klu: bool) -> str:
        """The circuit with its models and options, without an analysis; `klu` asks for that matrix solver."""
        return self.assembled(self.elements, (), klu)

    def assembled(self, elements: Iterable[str], control: Iterable[str], klu: bool, options: str = TOLERANCES) -> str:
        """The netlist around these element lines, control lines and tolerances."""
        celsius = format_number(round(self.temperature - _ZERO_CELSIUS, 9))
        lines = [f"* {self.title}", *elements]
        for model in self.models:
            lines += model_text(model).splitlines()
        solver = " klu" if klu and not self.amplifies else ""
        lines += [f".options {options}{solver}", f".options temp={celsius} tnom=26.85"]
        return "\n".join([*lines, *control, ".end", ""])

    def standalone(self, values: np.ndarray, klu: bool = True) -> str:
        """A complete file for `ngspice -b FILE`, which prints each probe as `name = value`, vector by vector.

        values: (vectors, sources) [V]. An ngspice without KLU ignores the request for it, with a warning.
        """
        control = self._begin_control()
        for index, row in enumerate(checked_values(self, values)):
            control += [f"alter {name} dc = {format_number(x)}" for name, x in zip(self.sources, row, strict=True)]
            control += ["op", f"echo vector {index}", *(f"print {probe}" for probe in self.probes)]
        control += ["quit", ".endc"]
        return self.assembled(self.elements, tuple(control), klu)

    def standalone_transient(self, waves: Waves, klu: bool = True) -> str:
        """A complete file for `ngspice -b FILE`, which prints a table of time and value for each probe in turn."""
        checked_waves(self, waves)
        control = [*self._begin_control(), "set nobreak", waves.command]
        control += [f"print col {probe}" for probe in self.probes]
        elements = self.with_sources(waves.sources(len(self.sources)))
        text_control = (*self.initial_voltages(waves), *control, "quit", ".endc")
        return self.assembled(elements, text_control, klu, self.transient_options(waves))

    def initial_voltages(self, waves: Waves) -> tuple[str, ...]:
        """The lines that set `initial`: none where the transient begins at the operating point of its first values."""
        if not waves.from_rest:
            return ()
        return tuple(f".ic v({net})={format_number(value)}" for net, value in self.initial)

    def _begin_control(self) -> list[str]:
        osdi = [f"pre_osdi {Path(path).resolve()}" for path in self.osdi]
        return [".control", *osdi, "set numdgt=15", "set width=4096", "optran 1 1 1 0 0 0"]

    def with_sources(self, values: Sequence[str]) -> tuple[str, ...]:
        """The element lines, the value of each driven source replaced by a text."""
        lines = dict(self.by_name)
        for name, value in zip(self.sources, values, strict=True):
            declared, plus, minus, _ = lines[name.lower()].split()
            lines[name.lower()] = f"{declared} {plus} {minus} {value}"
        return tuple(lines.values())

    @cached_property
    def amplifies(self) -> bool:
        """Whether a voltage-controlled voltage source is in the circuit or its models: an amplifier.

        KLU keeps its order of pivots while time steps change by decades. With a gain of 1e4 in the matrix its
        solutions then miss Kirchhoff's law by 1e-8 - 2e-7 A of 7e-5 A, and Newton's iteration may stall for good
        (2x2 sinh tile with spice_models/transimpedance.sub, in six forms of the amplifier; operating points of
        32x32); Sparse chooses its pivots anew and has neither. Such circuits are run with Sparse.
        """
        lines = [*self.elements, *(line for model in self.models for line in model_text(model).splitlines())]
        return any(line[:1] in ("e", "E") for line in lines)

    @cached_property
    def capacitors(self) -> np.ndarray:
        """Value of each capacitor among the elements [F], and whether a terminal is at ground: (capacitors, 2)."""
        words = [line.lower().split() for line in self.elements if line[0] in "cC"]
        rows = [(spice_number(word[3]), bool(_GROUND & {word[1], word[2]})) for word in words]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    def transient_options(self, waves: Waves) -> str:
        """The tolerances of a transient analysis of this circuit."""
        values, grounded = self.capacitors.T
        tied = float(np.sqrt((values[grounded == 0] ** 2).sum()))
        return waves.options(float(values.min()) if len(values) else None, tied)

    @cached_property
    def hash(self) -> str:
        """sha256 over everything that decides the result."""
        compiled = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in self.osdi]
        lists = [self.sources, self.probes, self.balance, *([compiled] if compiled else [])]
        initial = [f"{net}={format_number(value)}" for net, value in self.initial]
        text = "\n".join([self.circuit_text(klu=False), *(" ".join(names) for names in lists), *initial])
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    # --- what is in it ----------------------------------------------------------------------------------------

    def ground_sign(self, current: str) -> int:
        """+1 if the current i(v…) of a balance flows into ground, -1 if out of it."""
        line = self.by_name[current[2:-1]]
        _, plus, minus, *_ = line.lower().split()
        if (plus in _GROUND) == (minus in _GROUND):
            raise DeckError(
                "a source of the balance must have one terminal at ground",
                where=self.title,
                value=line,
                hint="Balance lists every voltage source tied to net 0, and nothing else.",
            )
        return 1 if minus in _GROUND else -1

    # --- checks -----------------------------------------------------------------------------------------------

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_models(self) -> None:
        defined: dict[str, str] = {}
        for model in self.models:
            for name in definitions(model, self.title, bool(self.osdi)):
                if name in defined:
                    raise DeckError("two models of one name", where=self.title, value=name, hint="Rename one of them.")
                defined[name] = model
        for path in self.osdi:
            # Parts of a command line of ngspice, which has redirections, variables and substitutions.
            if not (_PLAIN_PATH.fullmatch(path) and Path(path).is_file()):
                raise DeckError(
                    "no compiled Verilog-A model there",
                    where=self.title,
                    value=path,
                    limit="an existing file whose path has letters, digits and _./+-@%=, alone, no blanks or quotes",
                    hint="OpenVAF makes a .osdi file from Verilog-A source.",
                )

    def _check_names(self) -> None:
        if not self.elements:
            raise DeckError("a deck without elements", where=self.title)
        for kind, names in (("source", self.sources), ("probe", self.probes), ("balance", self.balance)):
            lowered = [name.lower() for name in names]
            if len(set(lowered)) != len(lowered):
                twice = next(name for name in lowered if lowered.count(name) > 1)
                raise DeckError(f"{kind} given twice", where=self.title, value=twice)

    @cached_property
    def _words(self) -> frozenset[str]:
        text = "\n".join(self.elements).lower()
        return frozenset(text.translate(str.maketrans("(),", "   ")).split())

    def _check_known(self, name: str) -> None:
        if name in self.sources:
            words = self.by_name.get(name.lower(), "").split()
            if name[:1] not in "vV" or len(words) != 4 or spice_number(words[3]) != 0:
                raise DeckError(
                    "a driven source must be a voltage source of value 0",
                    where=self.title,
                    value=" ".join(words) or f"{name}, which is no element",
                    limit=f"{name} PLUS MINUS 0",
                )
            return
        match = _PROBE.fullmatch(name)
        if match is None:
            raise DeckError("not a vector", where=self.title, value=name, limit="i(vNAME) or v(NET)")
        kind, target = match.groups()
        if (kind == "i" and (target[0] != "v" or target not in self.by_name)) or (
            kind == "v" and target not in self._words
        ):
            hint = "Only voltage sources have a current to read." if kind == "i" else "Check the name of the net."
            raise DeckError("the circuit has nothing of that name", where=self.title, value=name, hint=hint)


def checked_values(deck: Deck, values: np.ndarray) -> np.ndarray:
    """Values of a deck's sources as float64 (vectors, sources) [V]; InputError for a wrong shape or NaN, infinity."""
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(deck.sources) or array.shape[0] == 0:
        raise InputError(
            "values of the sources",
            where=deck.title,
            value=f"shape {array.shape}",
            limit=f"(vectors >= 1, {len(deck.sources)})",
            hint="One row per operating point, one column per source of the deck.",
        )
    if not np.isfinite(array).all():
        vector, source = (int(index[0]) for index in np.nonzero(~np.isfinite(array)))
        raise InputError(
            f"value of source {deck.sources[source]} in vector {vector}",
            where=deck.title,
            value=array[vector, source],
            limit="a finite number of volts",
        )
    return array


def checked_waves(deck: Deck, waves: Waves) -> None:
    """Raise InputError unless the waves have one column for each source of the deck."""
    if waves.values.shape[1] != len(deck.sources):
        raise InputError(
            "values of the waves",
            where=deck.title,
            value=f"shape {waves.values.shape}",
            limit=f"({len(waves.times)}, {len(deck.sources)})",
            hint="One row per knot, one column per source of the deck.",
        )


def _branch_current(name: str) -> str:
    vector = normal_vector(name)
    return vector if vector.startswith("i(") else f"i({vector})"
