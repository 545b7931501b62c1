"""Windows: what slows a state near its ends, a factor of its rate, within 0 - 1 there."""

from __future__ import annotations

from mdls_cosim.devices.base import Array, namespace


def joglekar(state: Array, exponent: int) -> Array:
    """1 - (2 x - 1)^2p: zero at both ends, where a state stays for ever.

    Joglekar and Wolf, 10.1088/0143-0807/30/4/001.
    """
    return 1 - (2 * state - 1) ** (2 * exponent)


def biolek(state: Array, direction: Array, exponent: int) -> Array:
    """1 - x^2p where `direction` is positive, 1 - (1 - x)^2p where not: zero at the end ahead only.

    Biolek, Biolek and Biolkova, Radioengineering 18, 210 (2009).
    """
    xp = namespace(state, direction)
    return 1 - xp.where(direction > 0, state, 1 - state) ** (2 * exponent)


def prodromakis(state: Array, exponent: int, height: Array) -> Array:
    """j (1 - ((x - 1/2)^2 + 3/4)^p): zero at both ends, where a state stays for ever; j scales it.

    Prodromakis, Peh, Papavassiliou and Toumazou, 10.1109/TED.2011.2158004.
    """
    return height * (1 - ((state - 0.5) ** 2 + 0.75) ** exponent)
