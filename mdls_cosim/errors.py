"""Errors: each one sentence that says what, where, value against limit, and what to try."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LONGEST_VALUE = 100
"""Characters of an offending value that a message shows; the whole value stays in `.value`."""
LONGEST_MESSAGE = 300
"""Characters of a message; longer parts are cut, and whole in the attributes of the error."""
# The parts that are cut, one after the other, until the message is short enough, and what of each is left at least.
_CUTS = (("limit", 80), ("where", 80), ("what", 100), ("value", 40), ("hint", 60))
# Share that is kept from the end: the file in a path, and the line of a user's code that a sentence ends in.
_KEPT_END = {"where": 1.0, "what": 0.4}


class MdlsError(Exception):
    """Anything this package refuses or cannot do.

    Arguments: `what` went wrong; `where` (field, net, layer, file); the offending `value`; the `limit` it broke or
    what is allowed instead; a `hint` at what to try. What is None is left out of the message. Survives pickling.
    """

    def __init__(
        self, what: str, *, where: str | None = None, value: Any = None, limit: Any = None, hint: str | None = None
    ) -> None:
        # Only `what` goes to Exception: pickle calls the class with it alone, then restores the attributes.
        super().__init__(what)
        self.what = what
        self.where = where
        self.value = value
        self.limit = limit
        self.hint = hint

    def __str__(self) -> str:
        limit = self.limit if self.limit is None or isinstance(self.limit, str) else _shown(self.limit)
        parts = {
            "what": _one_line(self.what),
            "where": None if self.where is None else _one_line(str(self.where)),
            "value": None if self.value is None else _shown(self.value),
            "limit": None if limit is None else _one_line(limit),
            "hint": None if not self.hint else _one_line(self.hint),
        }
        message = _sentence(**parts)
        for name, length in _CUTS:
            excess = len(message) - LONGEST_MESSAGE
            if excess > 0 and (part := parts[name]) is not None:
                parts[name] = _cut(part, max(length, len(part) - excess), _KEPT_END.get(name, 0.0))
                message = _sentence(**parts)
        return _cut(message, LONGEST_MESSAGE)


def _sentence(what: str, where: str | None, value: str | None, limit: str | None, hint: str | None) -> str:
    place = "" if where is None else f" at {where}"
    compared = [None if value is None else f"got {value}", None if limit is None else f"allowed {limit}"]
    comparison = ", ".join(part for part in compared if part)
    sentence = f"{what}{place}" + (f": {comparison}" if comparison else "")
    return f"{sentence.rstrip('.')}. {hint}" if hint else sentence


def brief(error: BaseException, length: int = LONGEST_VALUE) -> str:
    """The first line of a foreign error's text, at most `length` characters; its class where it has no text."""
    lines = str(error).strip().splitlines()
    return _cut(_one_line(lines[0]), length) if lines else type(error).__name__


_STYLES = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


def _one_line(text: str) -> str:
    """`text` on one line without escape sequences of terminals; other control characters become "?"."""
    return " ".join(without_controls(text).split())


def without_controls(text: str) -> str:
    """`text` without escape sequences of terminals; control characters but line feeds, tabs and spaces become "?"."""
    return text if text.isprintable() else "".join(map(_shown_sign, _STYLES.sub("", text)))


def _shown_sign(sign: str) -> str:
    if sign.isprintable() or sign in "\n\t" or (sign.isspace() and sign > "\x85"):
        return sign
    return " " if sign.isspace() else "?"


def _cut(text: str, length: int, end: float = 0.0) -> str:
    """At most `length` characters, of which the share `end` is from the end of the text, the others from its start."""
    if len(text) <= length:
        return text
    kept = round((length - 3) * end)
    return f"{text[: length - 3 - kept]}...{text[len(text) - kept :]}"


class ConfigError(MdlsError, ValueError):
    """A configuration that cannot be: unknown key, missing unit, impossible value."""


class InputError(MdlsError, ValueError):
    """Arrays that cannot be: wrong shape, NaN, a negative conductance."""


class StoreError(MdlsError):
    """A file that cannot be read or written."""


class NotAvailable(MdlsError):
    """A question that this model of a tile or device cannot answer."""


class ExecutorError(MdlsError):
    """Workers elsewhere that cannot be reached, were lost, or do not agree on what simulates."""


class DomainError(MdlsError):
    """A use outside the domain that a model was fitted on."""


class DomainWarning(UserWarning):
    """The first use outside the domain that a model was fitted on; further ones are counted."""


class ConversionWarning(UserWarning):
    """A conversion of a network that leaves out what was probably meant to be on tiles."""


class IgnoredChangeWarning(UserWarning):
    """A change of a converted model, or a training of it, that its reads do not follow."""


class ConvergenceError(MdlsError):
    """An iteration that did not reach its tolerance; `failed` lists the indices of the inputs it failed for."""

    def __init__(self, what: str, *, failed: Sequence[Any] = (), **parts: Any) -> None:
        super().__init__(what, **parts)
        self.failed = list(failed)


class SpiceError(MdlsError):
    """A simulation that gave no trustworthy result; `deck` is its text, `log` the tail of what ngspice said."""

    def __init__(self, what: str, *, deck: str | None = None, log: str = "", **parts: Any) -> None:
        super().__init__(what, **parts)
        self.deck = deck
        self.log = log


class DeckError(SpiceError):
    """The circuit itself is wrong: a name twice, a model that does not exist, a floating net."""


class SpiceNoConvergence(SpiceError):
    """ngspice found no operating point."""


class SpiceTimeout(SpiceError):
    """The job passed its deadline, and its worker was ended."""


class SpiceCrash(SpiceError):
    """The worker process died or spoke nonsense."""


class KirchhoffError(SpiceError):
    """The currents that ngspice returned do not sum to zero where they must."""


class SpiceNotFound(SpiceError):
    """No ngspice library on this machine."""


def _shown(value: Any) -> str:
    """`value` as a reader would write it, on one line, cut where it is long."""
    if isinstance(value, str):
        text = f'"{value}"'
    else:
        # numpy scalars print as np.float64(0.5); their plain Python values read better
        item = getattr(value, "item", None)
        text = repr(item() if callable(item) and getattr(value, "ndim", None) == 0 else value)
    return _cut(_one_line(text), LONGEST_VALUE)
