"""Sinh cells written as pairs of diodes: the same current, from compiled code.

ngspice evaluates the expression of a B source and its two derivatives node by node of their trees, a third of the time
of a sweep of 32x32 sinh cells. Two opposite diodes of saturation current c/2 and emission coefficient 1/(a kT/q) carry

    c/2 (e^{aV} - 1) - c/2 (e^{-aV} - 1) = c sinh(aV).

ngspice's diode is that exponential down to -3 of its thermal voltages, and another function beyond: the pair is exact
for |aV| <= 3. That no cell gets there is known beforehand in a circuit of resistors, cells and sources to ground: at
the net of the highest voltage all currents flow away, which Kirchhoff's law allows only at a source; so every net lies
between the lowest and the highest source, 0 V included, and every |V| is at most their distance. Circuits with
anything else, or with larger voltages, keep their B sources. Exported decks always do.

k/q is measured in the running ngspice, because its constants are those of its year: 4e-7 from today's, and so would be
the currents.
"""

import re
from collections.abc import Iterable

import numpy as np

from mdls_cosim.spice.elements import RESERVED, format_number, spice_number

__all__ = ["as_diodes"]

_MOST = 3.0  # thermal voltages, of which the forward diode of a pair may have more
_ZERO_CELSIUS = 273.15  # [K]
_CELL = re.compile(r"b\.(\S+) (\S+) (\S+) i=(\d[\d.e+-]*)\*sinh\((\d[\d.e+-]*)\*v\((\S+),(\S+)\)\)")
_GROUND = {"0", "gnd"}


def as_diodes(
    elements: Iterable[str], volts: np.ndarray, driven: set[str], kelvin: float, volt_per_kelvin: float
) -> list[str] | None:
    """The element lines, every sinh cell as two diodes, and their models; None where that might not be exact.

    elements: subcircuits written out (flatten.py)
    volts:    all values of the driven sources [V]
    driven:   lower-case names of the element lines that drive these
    kelvin, volt_per_kelvin: temperature of the circuit [K] and k/q of this ngspice [V/K]
    """
    lines: list[str] = []
    models: dict[str, str] = {}
    held = [0.0, float(volts.min(initial=0.0)), float(volts.max(initial=0.0))]
    for line in elements:
        cell = _CELL.fullmatch(line)
        if cell is None:
            words = line.split()
            name = words[0].lower()
            if name[0] != "r" and (name[0] not in "vb" or not _GROUND & {words[1].lower(), words[2].lower()}):
                return None
            if name not in driven and name[0] == "v":
                value = spice_number(words[3]) if len(words) == 4 else None
                if value is None:
                    return None
                held.append(value)
            elif name[0] == "b" and name not in driven:
                return None
            lines.append(line)
            continue
        name, plus, minus, factor, steepness, first, second = cell.groups()
        if (plus, minus) != (first, second):
            return None
        model = models.setdefault(steepness, f"{RESERVED}sinh{len(models)}")
        half = format_number(float(factor) / 2)
        lines += [f"D{name}.p {plus} {minus} {model} area={half}", f"D{name}.n {minus} {plus} {model} area={half}"]
    if not models or max(map(float, models)) * (max(held) - min(held)) > _MOST:
        return None
    celsius = format_number(kelvin - _ZERO_CELSIUS)
    for steepness, model in models.items():
        emission = format_number(1 / (float(steepness) * volt_per_kelvin * kelvin))
        lines.append(f".model {model} d(level=1 is=1 n={emission} tnom={celsius})")
    return lines
