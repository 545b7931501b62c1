"""Surrogates of non-linear tiles: error by case class, and error against the cost of a read.

    python benchmarks/surrogates.py [--quick] [--json] [--save FILE.npz] [--picture FILE.svg]

Every series surrogate is fitted in the run, to NodalTile's exact currents of one draw of tiles and inputs, and all are
tested on another draw (other seeds, other networks); cells behind selectors are taken row by row, without a fit. Errors
are relative to the RMS current of each case class (conductance class x input class); of all classes the worst counts.
Times are medians of one read of a programmed tile, a batch of 128, next to one ideal matmul of the same dtype. Pairs
are two tiles that are read with the same inputs and subtracted, their error in steps of a 6-bit ADC whose range is the
largest difference of the class.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdls_cosim.characterize import CONDUCTANCE_CLASSES, draw_conductances, draw_inputs
from mdls_cosim.devices import ExponentialSelector, Nmos, Ohmic, PassiveTio2, PolynomialRead, Sinh
from mdls_cosim.errors import SpiceNotFound
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.fidelity.products import Products
from mdls_cosim.surrogates import Domain, RowResponses, SeriesSurrogate, Surrogate
from mdls_cosim.surrogates.parameters import Reads
from mdls_cosim.surrogates.series import Terms
from mdls_cosim.surrogates.series_fit import fit_coefficients
from mdls_cosim.tiles import SelectorCell, TileSpec, TransistorCell

TILES = (*CONDUCTANCE_CLASSES, "trained")
INPUTS = ("uniform", "sparse", "dense", "half_on", "signed")
BATCH = 128
PAIR = 2
FIT_SEED, TEST_SEED = 1, 2
LABELS = 1e-8
"""Residual of Kirchhoff's law in the labels."""


@dataclass(frozen=True)
class Case:
    """A cell in a tile of 1 ohm wires and 10 ohm ends."""

    size: int
    cell: Sinh | PassiveTio2 | PolynomialRead | SelectorCell | TransistorCell
    amplitude: float
    span: tuple[float, float] = (1e-6, 100e-6)
    steep: bool = False
    """Row by row (`RowResponses`), and not as a series."""
    open_share: float = 0.0
    """Of the cells tested: at 0 S, which no fit has seen."""

    @property
    def spec(self) -> TileSpec:
        return TileSpec(
            rows=self.size,
            cols=self.size,
            cell=self.cell,
            row_line_resistance=1.0,
            column_line_resistance=1.0,
            driver_resistance=10.0,
            sense_resistance=10.0,
        )


CASES = {
    "sinh3_64": Case(64, Sinh(nonlinearity=3.0), 0.3),
    "sinh6_64": Case(64, Sinh(nonlinearity=6.0), 0.3),
    "sinh10_64": Case(64, Sinh(nonlinearity=10.0), 0.2),
    "sinh3_128": Case(128, Sinh(nonlinearity=3.0), 0.3),
}
"""Those with a target."""
MORE_CASES = {
    "sinh3_64, 1 - 300 uS": Case(64, Sinh(nonlinearity=3.0), 0.3, (1e-6, 300e-6)),
    "sinh3_64, half the cells open": Case(64, Sinh(nonlinearity=3.0), 0.3, open_share=0.5),
    "passive_tio2_64": Case(64, PassiveTio2(), 0.3, (2e-6, 95e-6)),
    "1s1r_64, ohmic, 1 nA and 0.08 V": Case(
        64, SelectorCell(selector=ExponentialSelector(slope_voltage=0.08)), 1.0, steep=True
    ),
    "1s1r_64, sinh 3 /V, 10 nA and 0.15 V": Case(
        64, SelectorCell(device=Sinh(), selector=ExponentialSelector(saturation_current=1e-8)), 1.0, steep=True
    ),
    "1t1r_64, sinh 3 /V": Case(
        64, TransistorCell(device=Sinh(), transistor=Nmos(body_effect=0.4, channel_modulation=0.05)), 0.3
    ),
    "polynomial_read_64, 50 - 225 uS": Case(64, PolynomialRead(), 0.4, (50e-6, 225e-6)),
}


@dataclass(frozen=True)
class Draw:
    """Tiles in pairs that share their inputs, class by class, and their exact currents."""

    conductances: Tensor  # (tile, rows, cols)
    voltages: Tensor  # (tile, vector, rows)
    currents: Tensor  # (tile, vector, cols)

    @property
    def classes(self) -> Tensor:
        """(tile, vector)."""
        tiles, vectors = self.voltages.shape[:2]
        return (torch.arange(tiles) // PAIR)[:, None] * len(INPUTS) + torch.arange(vectors) // (vectors // len(INPUTS))

    def by_class(self, values: Tensor) -> Tensor:
        """(tile, vector, cols) as (tile class, input class, tile of the pair, vector, cols)."""
        vectors, cols = values.shape[1:]
        return values.reshape(len(TILES), PAIR, len(INPUTS), vectors // len(INPUTS), cols).transpose(1, 2)


def network_weights(size: int, seed: int) -> np.ndarray:
    """Weights (size, size) of the second layer of a perceptron that is trained on scikit-learn's digits."""
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    pixels, digits = load_digits(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network = MLPClassifier((size, size), max_iter=30, alpha=1e-3, random_state=seed).fit(pixels / 16, digits)
    return network.coefs_[1]


def draw(case: Case, vectors: int, seed: int) -> Draw:
    """A pair of tiles of every class, read with `vectors` inputs of every class."""
    generator = np.random.default_rng([seed, case.size])
    low, high = case.span
    tiles = [
        draw_conductances(kind, case.size, case.size, case.span, generator)
        for kind in CONDUCTANCE_CLASSES
        for _ in range(PAIR)
    ]
    weights = network_weights(case.size, seed)
    shares = weights / np.abs(weights).max()
    tiles += [low + (high - low) * np.clip(sign * shares, 0.0, None) for sign in (1, -1)]
    conductances = np.stack(tiles)
    if seed == TEST_SEED:
        conductances[generator.random(conductances.shape) < case.open_share] = 0.0
    inputs = np.stack([_inputs(case, vectors, generator) for _ in TILES]).repeat(PAIR, 0)
    exact = NodalTile(case.spec, LABELS)
    currents = [
        exact.program(torch.as_tensor(tile))(torch.as_tensor(some))
        for tile, some in zip(conductances, inputs, strict=True)
    ]
    return Draw(torch.as_tensor(conductances), torch.as_tensor(inputs), torch.stack(currents))


def _inputs(case: Case, vectors: int, generator: np.random.Generator) -> np.ndarray:
    """(input class and vector, rows) [V]; `dense` here are all rows within the upper half of the amplitude."""
    size, amplitude = case.size, case.amplitude
    return np.concatenate(
        [
            draw_inputs("dense", vectors, size, amplitude, generator),
            draw_inputs("sparse", vectors, size, amplitude, generator),
            generator.uniform(amplitude / 2, amplitude, (vectors, size)),
            draw_inputs("half_on", vectors, size, amplitude, generator),
            draw_inputs("signed", vectors, size, amplitude, generator),
        ]
    )


@dataclass(frozen=True)
class Errors:
    """By class, (tile class, input class)."""

    rms: Tensor
    p99: Tensor
    steps: Tensor
    """RMS error of pairs in steps of a 6-bit ADC."""

    @classmethod
    def of(cls, test: Draw, currents: Tensor) -> Errors:
        exact, missed = test.by_class(test.currents), test.by_class(currents - test.currents)
        scale = exact.square().mean((2, 3, 4)).sqrt()
        pairs, missed_pairs = exact[:, :, 0] - exact[:, :, 1], missed[:, :, 0] - missed[:, :, 1]
        step = 2 * pairs.abs().amax((2, 3)) / (2**6 - 1)
        return cls(
            missed.square().mean((2, 3, 4)).sqrt() / scale,
            missed.abs().flatten(2).quantile(0.99, dim=2) / scale,
            missed_pairs.square().mean((2, 3)).sqrt() / step,
        )

    def table(self) -> str:
        lines = [f"{'':>12}" + "".join(f"{name:>10}" for name in INPUTS)]
        for name, row in zip(TILES, self.rms.tolist(), strict=True):
            lines.append(f"{name:>12}" + "".join(f"{100 * value:>8.3f} %" for value in row))
        return "\n".join(lines)


def median_times(reads: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """In turn, so that all see the same machine."""
    for read in reads:
        read()
    times = [[] for _ in reads]
    for _ in range(repeats):
        for mine, read in zip(times, reads, strict=True):
            began = time.perf_counter()
            read()
            mine.append(time.perf_counter() - began)
    return [float(np.median(each)) for each in times]


def fitted(case: Case, train: Draw) -> Surrogate:
    # Inputs of both signs put more than the amplitude over some cells.
    limits = Domain(
        rows=case.size,
        cols=case.size,
        conductances=case.span if not case.open_share else (0.0, case.span[1]),
        input_voltage=case.amplitude,
        cell_voltage=1.5 * case.amplitude,
    )
    if case.steep:  # nothing is fitted
        made_for = {"amplitude": (case.amplitude,), "conductances": case.span}
        return RowResponses(case.spec, coefficients=made_for, domain=limits)
    reads = Reads(train.conductances, train.voltages, train.currents)
    return SeriesSurrogate(case.spec, coefficients=fit_coefficients(case.spec, reads, train.classes), domain=limits)


class BlackBox:
    """A perceptron of conductances and inputs, in the manner of GENIEx (10.1109/DAC18072.2020.9218688).

    All conductances and inputs of a tile in, and for each column the factor between its current and V G out. It
    knows one size, one kind of cell, and what it has seen: `TILES` tiles of every class but that of trained networks,
    which it takes thousands of exact solutions to label.
    """

    HIDDEN = 512
    TILES = 960
    VECTORS = 4
    """Of each input class."""
    EPOCHS = 60

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        train = self._labelled(case)
        size = case.size
        self.case, self.largest = case, case.span[1]
        self.of_cells = torch.nn.Linear(size * size, self.HIDDEN)
        self.of_inputs = torch.nn.Linear(size, self.HIDDEN, bias=False)
        self.factors = torch.nn.Linear(self.HIDDEN, size)
        modules = torch.nn.ModuleList([self.of_cells, self.of_inputs, self.factors])
        optimiser = torch.optim.Adam(modules.parameters(), lr=1e-3)
        cells, inputs, exact = train.conductances.float(), train.voltages.float(), train.currents.float()
        scale = exact.square().mean((1, 2), keepdim=True).sqrt()
        order = torch.Generator().manual_seed(0)
        slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.EPOCHS)
        for _ in range(self.EPOCHS):
            for some in torch.randperm(self.TILES, generator=order).split(32):
                optimiser.zero_grad()
                found = (inputs[some] @ cells[some]) * self._factors(self._at_cells(cells[some]), inputs[some])
                loss = ((found - exact[some]) / scale[some]).square().mean()
                loss.backward()
                optimiser.step()
            slower.step()

    def _labelled(self, case: Case) -> Draw:
        generator = np.random.default_rng([FIT_SEED, 3])
        size = case.size
        each = range(self.TILES // len(CONDUCTANCE_CLASSES))
        drawn = [
            draw_conductances(kind, size, size, case.span, generator) for _ in each for kind in CONDUCTANCE_CLASSES
        ]
        cells = torch.as_tensor(np.stack(drawn))
        inputs = torch.as_tensor(np.stack([_inputs(case, self.VECTORS, generator) for _ in drawn]))
        exact = NodalTile(case.spec, LABELS)
        return Draw(
            cells,
            inputs,
            torch.cat([exact.program(c)(v) for c, v in zip(cells.split(8), inputs.split(8), strict=True)]),
        )

    def _at_cells(self, conductances: Tensor) -> Tensor:
        return self.of_cells(conductances.flatten(-2)[..., None, :] / self.largest)

    def _factors(self, at_cells: Tensor, voltages: Tensor) -> Tensor:
        return 1 + self.factors(torch.relu(at_cells + self.of_inputs(voltages / self.case.amplitude)))

    @torch.no_grad()
    def program(self, conductances: Tensor) -> Callable[[Tensor], Tensor]:
        cells = conductances.float()
        at_cells = self._at_cells(cells)

        @torch.no_grad()
        def read(voltages: Tensor) -> Tensor:
            return (voltages @ cells) * self._factors(at_cells, voltages)

        return read


def rungs(case: Case, surrogate: Surrogate) -> dict[str, Callable[[Tensor], Callable]]:
    """Every way to read a tile, from the cheapest: name -> program(conductances) -> read(voltages)."""

    def without(**changed: tuple[float, ...]) -> SeriesSurrogate:
        return SeriesSurrogate(case.spec, coefficients={**surrogate.coefficients, **changed}, domain=surrogate.domain)

    def own_rows(conductances: Tensor) -> Callable[[Tensor], Tensor]:
        """The surrogate's additive part alone."""
        terms = Terms(case.spec, conductances, surrogate.coefficients["amplitude"][0])
        alone = {**surrogate.coefficients, "slope": (0.0, 0.0, 0.0), "square": (0.0, 0.0)}
        return Products(terms.products(alone).direct.shortened(case.amplitude, 2e-4)).to(torch.empty(())).currents

    def ideal(conductances: Tensor) -> Callable[[Tensor], Tensor]:
        cells = conductances.float()
        return lambda voltages: voltages @ cells

    def linear(conductances: Tensor) -> Callable[[Tensor], Tensor]:
        exact = NodalTile(case.spec.replace(cell=Ohmic())).program(conductances).effective_conductances.float()
        return lambda voltages: voltages @ exact

    made_for = {"amplitude": (case.amplitude,), "conductances": case.span}
    row_by_row = RowResponses(case.spec, coefficients=made_for, domain=surrogate.domain)
    return {
        "ideal, V G": ideal,
        "exact linear tile, V W": linear,
        "black box": BlackBox(case).program,
        "series, rows on their own": own_rows,
        "series, no second order": without(square=(0.0, 0.0)).program,
        "series": surrogate.program,
        "rows exactly": row_by_row.program,
        "NodalTile": NodalTile(case.spec).program,
    }


def pareto(case: Case, test: Draw, surrogate: Surrogate, repeats: int) -> dict[str, list[float]]:
    """Time of a read over one ideal matmul, RMS error of the worst and of the middle class, in single precision."""
    curve = {}
    inputs = _batch(test)
    cells = test.conductances[0].float()
    for name, program in rungs(case, surrogate).items():
        found = torch.stack(
            [program(tile)(some.float()).double() for tile, some in zip(test.conductances, test.voltages, strict=True)]
        )
        read = program(test.conductances[0])
        count = 3 if name in ("rows exactly", "NodalTile") else repeats
        ideal, mine = median_times([lambda: inputs @ cells, lambda read=read: read(inputs)], count)
        errors = Errors.of(test, found).rms
        curve[name] = [mine / ideal, float(errors.max()), float(errors.median())]
    point = in_ngspice(case, test, repeats)
    return curve if point is None else {**curve, "ngspice": point}


def in_ngspice(case: Case, test: Draw, repeats: int) -> list[float] | None:
    """As `pareto`, of a few inputs of every class on one tile; None without ngspice."""
    cells, few = test.conductances[0], test.voltages[0, :: max(1, test.voltages.shape[1] // 16)]
    exact = NodalTile(case.spec, LABELS).program(cells)(few)
    programmed = SpiceTile(case.spec).program(cells)
    began = time.perf_counter()
    try:
        found = programmed(few)
    except SpiceNotFound:
        return None
    took = (time.perf_counter() - began) / len(few) * BATCH
    inputs, plain = _batch(test), cells.float()
    (ideal,) = median_times([lambda: inputs @ plain], repeats)
    error = float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    return [took / ideal, error, error]


def _batch(test: Draw) -> Tensor:
    """128 inputs of all classes in turn, float32."""
    every = test.voltages[0]
    return every[torch.arange(BATCH) % len(every)].float()


def times_over_ideal(surrogate: Surrogate, test: Draw, repeats: int) -> dict[str, float]:
    programmed, ratios = surrogate.program(test.conductances[0]), {}
    for dtype in (torch.float32, torch.float64):
        inputs, cells = _batch(test).to(dtype), test.conductances[0].to(dtype)
        times = [
            median_times([lambda i=inputs, c=cells: i @ c, lambda i=inputs: programmed(i)], repeats) for _ in range(3)
        ]
        ratios[str(dtype).removeprefix("torch.")] = float(np.median([mine / ideal for ideal, mine in times]))
    return ratios


def draw_picture(path: str, curve: dict[str, list[float]], title: str) -> None:
    import matplotlib.pyplot as plt

    from mdls_cosim.report.style import BLUE, GREY, STYLE, VERMILLION

    with plt.style.context(STYLE):
        figure, axes = plt.subplots(figsize=(7.0, 4.2))
        ours = [point[:2] for name, point in curve.items() if name.startswith("series")]
        axes.plot(*zip(*ours, strict=True), color=VERMILLION, marker="o", zorder=3)
        for name, (cost, error, _) in curve.items():
            mine = name.startswith("series")
            colour = VERMILLION if mine else BLUE if name == "NodalTile" else GREY
            if not mine:
                axes.plot(cost, max(error, 1e-8), color=colour, marker="s")
            # Ours to the left of their points, the others to the right; the two that share one, above and below.
            shift, side = ((-8, -4), "right") if mine else ((8, -4), "left")
            shift = {"exact linear tile, V W": (8, 4), "ideal, V G": (8, -13)}.get(name, shift)
            axes.annotate(
                name,
                (cost, max(error, 1e-8)),
                xytext=shift,
                textcoords="offset points",
                horizontalalignment=side,
                color=colour,
                fontsize=9,
            )
        axes.set(xscale="log", yscale="log", title=title)
        axes.set_xlabel("time of a read over one ideal matmul (batch 128)")
        axes.set_ylabel("RMS error of the worst class")
        axes.margins(x=0.25, y=0.15)
        axes.grid(True)
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="fewer inputs and repeats, only the cases with a target")
    parser.add_argument("--save", metavar="FILE.npz", help="inputs and predictions behind the figures")
    parser.add_argument("--picture", metavar="FILE", help="error against cost, as SVG or PNG")
    options = parser.parse_args()
    vectors, repeats = (4, 50) if options.quick else (16, 300)
    print(f"torch threads: {torch.get_num_threads()}")
    results, saved, curve = {}, {}, {}
    for name, case in (CASES if options.quick else {**CASES, **MORE_CASES}).items():
        train, test = draw(case, vectors, FIT_SEED), draw(case, vectors, TEST_SEED)
        began = time.perf_counter()
        surrogate = fitted(case, train)
        fit_time = time.perf_counter() - began
        linear = NodalTile(case.spec.replace(cell=Ohmic()))
        tile = test.conductances[0]
        plain, own = median_times([lambda m=linear, t=tile: m.program(t), lambda s=surrogate, t=tile: s.program(t)], 3)
        found = surrogate.program(test.conductances)(test.voltages)
        errors = Errors.of(test, found)
        ratios = times_over_ideal(surrogate, test, repeats)
        worst, p99 = float(errors.rms.max()), float(errors.p99.max())
        where = divmod(int(errors.rms.argmax()), len(INPUTS))
        print(f"\n{name}: {type(case.cell).__name__}, inputs to {case.amplitude:g} V")
        print(errors.table())
        print(
            f"worst class {TILES[where[0]]} / {INPUTS[where[1]]}: RMS {100 * worst:.3f} %; "
            f"worst 99th percentile {100 * p99:.3f} %; pairs {float(errors.steps.max()):.3f} steps of 6 bits"
        )
        print(
            f"a read takes {ratios['float32']:.1f} (float32) and {ratios['float64']:.1f} (float64) ideal matmuls; "
            f"fit {fit_time:.1f} s; programming {1e3 * own:.0f} ms a tile, the linear tile alone {1e3 * plain:.0f} ms"
        )
        saved |= {
            f"{name}/conductances": test.conductances.numpy(),
            f"{name}/voltages": test.voltages.numpy(),
            f"{name}/currents": found.numpy(),
            f"{name}/exact": test.currents.numpy(),
        }
        if name in CASES:
            results[name] = {"rms": worst, "p99": p99, "time_over_ideal": round(min(ratios.values()), 2)}
        if name == "sinh6_64":
            curve = pareto(case, test, surrogate, repeats)
            print(f"\n{'error against cost, ' + name:<32}{'ideal matmuls':>14}{'worst class':>14}{'middle':>14}")
            for rung, (cost, worst, middle) in curve.items():
                print(f"{rung:<32}{cost:>14.1f}{100 * worst:>12.4f} %{100 * middle:>12.4f} %")
    if options.picture:
        draw_picture(options.picture, curve, "Sinh 6 /V to 0.3 V, 64x64, 1 ohm a segment")
    if options.save:
        np.savez_compressed(options.save, **saved)  # pyright: ignore[reportArgumentType]
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
