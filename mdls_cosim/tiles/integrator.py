"""The capacitor by which a user's subcircuit integrates its own state, as in the LTspice habit (`Cx x 0 1`)."""

from __future__ import annotations

from functools import lru_cache

from mdls_cosim.errors import ConfigError
from mdls_cosim.spice.netlist import Header, Statement, header, statements

__all__ = ["integrates"]

_GROUND = {"0", "gnd"}


@lru_cache(maxsize=64)
def integrates(text: str, subcircuit: str, pin: int, grounds: tuple[int, ...] = ()) -> bool:
    """Whether a subcircuit has a capacitor of its own from one of its pins to ground, also in a subcircuit inside it.

    Args:
        text: of the model.
        subcircuit: name of the .subckt in it.
        pin: number of the state's pin, 0 for the first.
        grounds: numbers of the pins that are at ground.

    Raises:
        ConfigError: that capacitor has an initial voltage, or another one leads from the pin to another net.
    """
    bodies = _bodies(text, subcircuit)
    name = subcircuit.lower()
    if name not in bodies:
        return False
    pins = bodies[name][0].pins
    return _integrates(bodies, name, pins[pin], frozenset(pins[index] for index in grounds), subcircuit, depth=0)


def _integrates(
    bodies: dict[str, tuple[Header, list[Statement]]],
    name: str,
    net: str,
    grounds: frozenset[str],
    where: str,
    depth: int,
) -> bool:
    found = False
    for statement in bodies[name][1]:
        words = statement.text.lower().split()
        if words[0][0] == "c" and net in words[1:3]:
            _check(statement, net, grounds | _GROUND, where)
            found = True
        elif words[0][0] == "x" and net in words[1:]:
            nets, inner = _call(words)
            if inner not in bodies or depth > len(bodies):
                continue
            pins = bodies[inner][0].pins
            inside = frozenset(pin for pin, outer in zip(pins, nets, strict=False) if outer in grounds | _GROUND)
            for pin, outer in zip(pins, nets, strict=False):
                if outer == net:
                    found |= _integrates(bodies, inner, pin, inside, where, depth + 1)
    return found


def _check(statement: Statement, net: str, grounds: frozenset[str], where: str) -> None:
    words = statement.text.lower().split()
    other = words[2] if words[1] == net else words[1]
    if other not in grounds:
        raise ConfigError(
            "a capacitor leads from the state to a net that is not ground",
            where=f"{where}, line {statement.number}",
            value=statement.text,
            limit="a capacitor between the pin of the state and ground, or none",
        )
    if any(word.startswith("ic=") for word in statement.text.lower().replace(" =", "=").split()):
        raise ConfigError(
            "the capacitor at the state's pin has an initial voltage",
            where=f"{where}, line {statement.number}",
            value=statement.text,
            limit="no ic=",
            hint="Leave ic= out: programming sets the state",
        )


def _call(words: list[str]) -> tuple[list[str], str]:
    """Nets and name of the subcircuit of an X statement's words."""
    last = next((index for index, word in enumerate(words) if "=" in word or word == "params:"), len(words))
    while last < len(words) and words[last][0] == "=":  # `name = value`: the word before belongs to it
        last -= 1
    return words[1 : last - 1], words[last - 1]


@lru_cache(maxsize=64)
def _bodies(text: str, where: str) -> dict[str, tuple[Header, list[Statement]]]:
    """Header and elements of each subcircuit, lower case; of those inside others too."""
    found: dict[str, tuple[Header, list[Statement]]] = {}
    opened: list[tuple[Header, list[Statement]]] = []
    for statement in statements(text if "\n" in text else text + "\n", where):
        if statement.word == ".subckt":
            opened.append((header(statement, where), []))
            found.setdefault(opened[-1][0].name, opened[-1])
        elif statement.word == ".ends":
            opened.pop()
        elif statement.word[0] != "." and opened:
            opened[-1][1].append(statement)
    return found
