"""What the tests of the engine share: an engine, a deck with a known answer, small tiles of sinh cells."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from mdls_cosim.spice import Deck, NgspiceEngine, OperatingPoints
from mdls_cosim.spice.probe import known_circuit


@pytest.fixture
def engine() -> Iterator[NgspiceEngine]:
    with NgspiceEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def one_engine() -> Iterator[NgspiceEngine]:
    """One engine object for all tests of a file: each must leave it in working order."""
    with NgspiceEngine() as engine:
        yield engine


@pytest.fixture
def gives_the_known_current() -> Callable[[NgspiceEngine], None]:
    """Asserts that the next good deck on an engine gives its right result, by either strategy."""

    def check(engine: NgspiceEngine) -> None:
        deck, values, current = known_circuit()
        points: OperatingPoints = engine.run(deck, values)
        np.testing.assert_allclose(points.column("i(vsense)"), [current], rtol=1e-12)
        both = engine.run(deck, np.array([[2.0], [-4.0]]))
        np.testing.assert_allclose(both.column("i(vsense)"), [current, -2 * current], rtol=1e-12)

    return check


@pytest.fixture
def sinh_tile() -> Callable[..., Deck]:
    """A square crossbar of sinh cells, 1 - 100 uS, 1 ohm wires, 10 ohm ends, straight from the definition."""

    def build(size: int, seed: int = 0) -> Deck:
        conductances = np.random.default_rng(seed).uniform(1e-6, 1e-4, (size, size))
        lines = []
        for i in range(size):
            lines += [f"Vrow{i} drive{i} 0 0", f"Rdrive{i} drive{i} row{i}_col0 10"]
            lines += [f"Vcol{i} sense{i} 0 0", f"Rsense{i} col{i}_row{size - 1} sense{i} 10"]
            for j in range(size - 1):
                lines.append(f"Rrow{i}_{j} row{i}_col{j} row{i}_col{j + 1} 1")
                lines.append(f"Rcol{i}_{j} col{i}_row{j} col{i}_row{j + 1} 1")
            for j in range(size):
                cell = f"sinh conductance={conductances[i, j]:.17g} nonlinearity=3"
                lines.append(f"Xcell{i}_{j} row{i}_col{j} col{j}_row{i} {cell}")
        rows, columns = [f"Vrow{i}" for i in range(size)], [f"i(vcol{i})" for i in range(size)]
        return Deck(
            title=f"sinh tile {size}x{size}",
            elements=tuple(lines),
            models=("sinh",),
            sources=tuple(rows),
            probes=tuple(columns),
            balance=tuple(rows + columns),
        )

    return build
