"""A deck: the text of one circuit as a value, which sorts, compares, hashes and runs alone."""

import hashlib
import math
import re
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mdls_cosim.errors import DeckError, InputError
from mdls_cosim.spice.elements import checked_elements, format_number, normal_vector, spice_number
from mdls_cosim.spice.library import read_model

__all__ = ["TOLERANCES", "Deck", "checked_values"]

# Tight enough for 1e-9 on non-linear tiles (the defaults are up to 1.7e-4 off in sweeps). Never rshunt: it leaks.
TOLERANCES = "reltol=1e-9 vntol=1e-15 abstol=1e-18 gmin=1e-15"

_ZERO_CELSIUS = 273.15  # [K]
_GROUND = {"0", "gnd"}
_PROBE = re.compile(r"([iv])\(([^\s()]+)\)")


@dataclass(frozen=True)
class Deck:
    """One circuit, its driven sources and what to read of it.

    title:       one line; it is what an error names as the place
    elements:    element lines ("Rrow0_1 row0_col1 row0_col2 1"); kept sorted, each name once
    models:      names of .sub files of the library; their text becomes part of the deck, which so runs alone
    sources:     voltage sources ("Vrow0") whose values [V] are set per operating point; declared as `Vrow0 + - 0`
    probes:      vectors to read: "i(vcol0)" (current into the + terminal) [A], "v(row3_col5)" [V]
    balance:     all voltage sources tied to ground ("vcol0" or "i(vcol0)"): Kirchhoff's law says that their
                 currents into ground sum to zero, and the engine checks it. Empty: not checked
    temperature: [K]

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
    by_name: dict[str, str] = field(init=False, repr=False, compare=False)  # element lines by lower-case name

    def __post_init__(self) -> None:
        if not isinstance(self.title, str) or not self.title.strip() or not self.title.isprintable():
            raise DeckError("the title of a deck must be one line of text", value=self.title)
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise DeckError("temperature", where=self.title, value=f"{self.temperature} K", limit="above 0 K, finite")
        for name in ("elements", "models", "sources", "probes", "balance"):
            if isinstance(getattr(self, name), str):
                raise DeckError(f"{name} must be a sequence of strings, not one string", where=self.title)
        self._set("temperature", float(self.temperature))
        self._set("by_name", checked_elements(tuple(self.elements), self.title))
        self._set("elements", tuple(self.by_name.values()))
        self._set("models", tuple(sorted(set(self.models))))
        self._set("sources", tuple(self.sources))
        self._set("probes", tuple(normal_vector(probe) for probe in self.probes))
        self._set("balance", tuple(_branch_current(name) for name in self.balance))
        for model in self.models:
            self._check_model(model)
        self._check_names()
        for names in (self.sources, self.probes, self.balance):
            for name in names:
                self._check_known(name)
        for name in self.balance:
            self.ground_sign(name)

    # --- text -------------------------------------------------------------------------------------------------

    def circuit_text(self, klu: bool) -> str:
        """The circuit with its models and options, without an analysis; `klu` asks for that matrix solver."""
        return self.assembled(self.elements, (), klu)

    def assembled(self, elements: tuple[str, ...], control: tuple[str, ...], klu: bool) -> str:
        """The netlist around these element lines and control lines."""
        celsius = format_number(round(self.temperature - _ZERO_CELSIUS, 9))
        lines = [f"* {self.title}", *elements]
        for model in self.models:
            lines += read_model(model).splitlines()
        lines += [f".options {TOLERANCES}{' klu' if klu else ''}", f".options temp={celsius} tnom={celsius}"]
        return "\n".join([*lines, *control, ".end", ""])

    def standalone(self, values: np.ndarray, klu: bool = True) -> str:
        """A complete file for `ngspice -b FILE`, which prints each probe as `name = value`, vector by vector.

        values: (vectors, sources) [V]. An ngspice without KLU ignores the request for it, with a warning.
        """
        control = [".control", "set numdgt=15", "set width=4096", "optran 1 1 1 0 0 0"]
        for index, row in enumerate(checked_values(self, values)):
            control += [f"alter {name} dc = {format_number(x)}" for name, x in zip(self.sources, row, strict=True)]
            control += ["op", f"echo vector {index}", *(f"print {probe}" for probe in self.probes)]
        control += ["quit", ".endc"]
        return self.assembled(self.elements, tuple(control), klu)

    @cached_property
    def hash(self) -> str:
        """sha256 over everything that decides the result."""
        lists = [self.sources, self.probes, self.balance]
        text = "\n".join([self.circuit_text(klu=False), *(" ".join(names) for names in lists)])
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

    def _check_model(self, name: str) -> None:
        for line in read_model(name).splitlines():
            word = line.split(None, 1)[0].lower() if line.strip() else ""
            if word.startswith((".control", ".include", ".inc", ".lib", ".end")) and word != ".ends":
                raise DeckError(f"the model {name} has a line that is none of a model", where=self.title, value=line)

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


def _branch_current(name: str) -> str:
    vector = normal_vector(name)
    return vector if vector.startswith("i(") else f"i({vector})"
