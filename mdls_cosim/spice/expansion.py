"""Bounds on what a model becomes when ngspice expands its functions and subcircuits; recursion is refused.

ngspice follows a recursive .func or .subckt until its stack ends, and writes out every call in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mdls_cosim.errors import DeckError
from mdls_cosim.spice.netlist import Statement, before_parameters, header

__all__ = ["check_expansion"]

LONGEST_EXPANDED = 100_000
"""Characters of a statement when its function calls are written out."""
MOST_EXPANDED = 4_000
"""Statements and parameters of a subcircuit when its subcircuit calls are written out."""
MOST_CHARACTERS = 1_000_000
"""Characters of them all."""
DEEPEST_CALLS = 50
"""Functions or subcircuits that call each other."""

_FUNCTION = re.compile(r"\.(?:func|param) (\w+) ?\(([^()]*)\) ?=? ?(.*)", re.IGNORECASE)
_CALL = re.compile(r"(\w+)(?= ?\()")
_TOKEN = re.compile(r"[\w.]+|[^\w\s.]")


@dataclass
class _Scope:
    """What is defined between a .subckt and its .ends, or outside of all."""

    name: str
    above: _Scope | None
    functions: dict[str, _Function] = field(default_factory=dict)
    subcircuits: dict[str, _Scope] = field(default_factory=dict)
    lines: list[Statement] = field(default_factory=list)
    begin: Statement | None = None
    cost: _Cost | None = None

    def upward(self) -> Iterator[_Scope]:
        scope: _Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.above

    def inside(self) -> Iterator[_Scope]:
        yield self
        for scope in self.subcircuits.values():
            yield from scope.inside()


@dataclass
class _Function:
    """A .func. Its expansion has `size[0]` characters, and `size[k]` times those of argument k."""

    statement: Statement
    parameters: tuple[str, ...]
    body: str
    scope: _Scope
    size: list[int] | None = None


@dataclass(frozen=True)
class _Cost:
    """An expanded subcircuit: statements with parameters, and characters."""

    statements: int
    characters: int


def check_expansion(lines: Sequence[Statement], where: str) -> None:
    """Refuse a model that ngspice could not expand in reasonable time and memory.

    Raises:
        DeckError: a function or subcircuit calls itself, directly or through others, or the expansion of a statement
            or a subcircuit is larger than the limits above.
    """
    _Expansion(_scopes(lines, where), where).check()


def _scopes(lines: Sequence[Statement], where: str) -> _Scope:
    outer = scope = _Scope("", None)
    for statement in lines:
        if statement.word == ".subckt":
            inner = _Scope(header(statement, where).name, scope, begin=statement)
            scope.subcircuits.setdefault(inner.name, inner)
            scope = inner
        elif statement.word == ".ends":
            scope = scope.above or outer
        elif function := _FUNCTION.fullmatch(statement.text.lower()):
            names = tuple(name.strip() for name in function[2].split(",") if name.strip())
            scope.functions[function[1]] = _Function(statement, names, function[3], scope)
        elif statement.word == ".func":
            raise DeckError(
                f"line {statement.number} of the model is not .func NAME(arguments) {{expression}}",
                where=where,
                value=statement.text,
            )
        else:
            scope.lines.append(statement)
    return outer


class _Expansion:
    """Sizes of the expansions of the functions and subcircuits of a model."""

    def __init__(self, outer: _Scope, where: str) -> None:
        self._outer, self._where = outer, where
        self._active: list[object] = []

    def check(self) -> None:
        for scope in self._outer.inside():
            for function in scope.functions.values():
                self._function(function)
        for scope in self._outer.inside():
            self._subcircuit(scope)

    def _function(self, function: _Function) -> list[int]:
        if function.size is None:
            self._enter(function, function.statement, "function")
            for name in _CALL.findall(function.body):
                for callee in self._callees(name, function.scope):
                    self._function(callee)
            function.size = self._size(function.body, function.scope, function.parameters)
            self._active.pop()
        return function.size

    def _subcircuit(self, scope: _Scope) -> _Cost:
        if scope.cost is None:
            first = scope.begin or Statement(1, "")
            self._enter(scope, first, "subcircuit")
            count, length = 1 + first.text.count("="), len(first.text)
            for statement in scope.lines:
                count += 1 + statement.text.count("=") * (statement.word[0] in ".x")
                length += self._size(statement.text.lower(), scope, ())[0]
                if statement.word[0] == "x" and (called := self._called(statement, scope)):
                    cost = self._subcircuit(called)
                    count, length = count + cost.statements, length + cost.characters
                if count > MOST_EXPANDED or length > MOST_CHARACTERS:
                    raise DeckError(
                        f"line {statement.number} of the model: the subcircuit {scope.name} is too large when expanded",
                        where=self._where,
                        limit=f"{MOST_EXPANDED} statements and parameters, {MOST_CHARACTERS} characters",
                    )
            scope.cost = _Cost(count, length)
            self._active.pop()
        return scope.cost

    def _enter(self, item: object, statement: Statement, kind: str) -> None:
        if any(item is each for each in self._active):
            raise DeckError(
                f"line {statement.number} of the model: the {kind} calls itself",
                where=self._where,
                value=statement.text,
                hint="ngspice has no recursion",
            )
        if len(self._active) >= DEEPEST_CALLS:
            raise DeckError(
                f"line {statement.number} of the model: the calls of {kind}s are too deeply nested",
                where=self._where,
                limit=f"{DEEPEST_CALLS} levels",
            )
        self._active.append(item)

    def _callees(self, name: str, scope: _Scope) -> list[_Function]:
        """The functions that a call may mean: ngspice also finds one in the subcircuit that calls the caller."""
        for each in scope.upward():
            if name in each.functions:
                return [each.functions[name]]
        return [each.functions[name] for each in scope.inside() if name in each.functions]

    def _called(self, statement: Statement, scope: _Scope) -> _Scope | None:
        words, _ = before_parameters(statement.text.lower())
        if not words:
            return None
        for each in scope.upward():
            if words[-1] in each.subcircuits:
                return each.subcircuits[words[-1]]
            if each.name == words[-1]:
                return each
        return None

    def _size(self, text: str, scope: _Scope, parameters: tuple[str, ...]) -> list[int]:
        """The size of an expanded text as that of a _Function of these parameters."""
        sizes = {name: 1 + place for place, name in enumerate(parameters)}
        # Of each open bracket: the function called, or None; the arguments before; the size so far.
        stack: list[tuple[_Function | None, list[list[int]], list[int]]] = [(None, [], [0] * (1 + len(sizes)))]
        tokens = _TOKEN.findall(text)
        for place, token in enumerate(tokens):
            function, arguments, size = stack[-1]
            following = tokens[place + 1] if place + 1 < len(tokens) else ""
            if token == "(":
                found = self._callees(tokens[place - 1], scope) if place else []
                stack.append((found[0] if found else None, [], [0] * len(size)))
            elif token == ")" and len(stack) > 1:
                stack.pop()
                total = _sum(_written(function, [*arguments, size]), size if function is None else None)
                outer = stack[-1]
                stack[-1] = (outer[0], outer[1], _sum(outer[2], total))
            elif token == "," and function is not None:
                stack[-1] = (function, [*arguments, size], [0] * len(size))
            elif token in sizes and following != "(":
                size[sizes[token]] += 1
                size[0] += 2
            else:
                size[0] += 1 + len(token)
            if max(map(max, (each for _, _, each in stack))) > LONGEST_EXPANDED:
                raise DeckError(
                    "a statement of the model is too long when its functions are expanded",
                    where=self._where,
                    value=text,
                    limit=f"{LONGEST_EXPANDED} characters",
                )
        return stack[0][2]


def _written(function: _Function | None, arguments: list[list[int]]) -> list[int]:
    """The size of a call: that of the function's body, each argument in the places of its parameter."""
    width = len(arguments[0])
    if function is None or function.size is None:
        return [2] + [0] * (width - 1)
    total = [2 + function.size[0], *[0] * (width - 1)]
    for uses, argument in zip(function.size[1:], arguments, strict=False):
        total = [old + uses * each for old, each in zip(total, argument, strict=True)]
    return total


def _sum(first: list[int], second: list[int] | None) -> list[int]:
    return first if second is None else [a + b for a, b in zip(first, second, strict=True)]
