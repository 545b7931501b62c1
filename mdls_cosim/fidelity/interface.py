"""The one interface of every fidelity: programmed conductances and voltages in, currents out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mdls_cosim.devices import Device
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.fidelity.measured_range import drives_outside, programmed_outside
from mdls_cosim.fidelity.products import Products, Term
from mdls_cosim.tiles import TileSpec


class TileModel(ABC):
    """Computes reads of tiles that share one `TileSpec`."""

    spec: TileSpec
    any_circuit: ClassVar[bool] = False
    """True where cells, drive and sense side may be whatever a TileSpec can say."""

    takes_devices: ClassVar[bool] = False
    """True where the device may differ from cell to cell in the shape of its I-V curve; then `_program` takes them."""

    def program(self, conductances: Float[Tensor, "*tiles rows cols"], devices: Device | None = None) -> Programmed:
        """Sets the cells of any number of tiles; the expensive step, once per programming.

        Args:
            conductances: (*tiles, rows, cols) [S], I/V of the device at `spec.reference_voltage`.
            devices: the memristor of every cell, a population (`Device.varied`) whose parameters broadcast to the
                conductances; None: that of the spec in all cells.

        Raises:
            InputError: the wrong shape; a conductance that is negative, not finite, or of no state of the device.
            NotAvailable: a tile that only its SPICE circuit can describe, on any rung but that one; devices that
                differ, on a rung that knows one device.
        """
        self.check(conductances, devices)
        return self._programmed(conductances, devices)

    def _programmed(self, conductances: Tensor, devices: Device | None) -> Programmed:
        if devices is None:
            return self._program(conductances)
        return self._program(conductances, devices)  # pyright: ignore[reportCallIssue]

    def check(self, conductances: Tensor, devices: Device | None = None) -> None:
        """What `program` raises, without programming."""
        if devices is not None and not self.takes_devices:
            raise NotAvailable(
                f"devices that differ from cell to cell on {type(self).__name__}", hint="Take NodalTile (rung nodal)."
            )
        check_conductances(self.spec, conductances)
        if not self.any_circuit:
            cell_law(self.spec)
        if self.spec.device is not None and devices is None:
            self.spec.device.check_range(conductances, self.spec.reference_voltage)

    @abstractmethod
    def _program(self, conductances: Tensor) -> Programmed: ...


class Programmed(ABC):
    """Tiles with their cells set. Leading dimensions of voltages broadcast against those of the conductances.

    Attributes:
        beyond_measured: where the device is that of a parameter set: cells and row voltages beyond its measurements, by
            quantity. The first are a DomainWarning.
    """

    def __init__(self, spec: TileSpec, conductances: Tensor) -> None:
        self.spec = spec
        self.conductances = conductances
        self.beyond_measured = programmed_outside(spec, conductances)

    def __call__(self, voltages: Float[Tensor, "*tiles batch rows"]) -> Float[Tensor, "*tiles batch cols"]:
        """Column currents [A], positive into the sense node, under row voltages [V].

        Raises:
            InputError: the wrong shape or a non-finite voltage.
        """
        check_voltages(self.spec, self.conductances.shape[:-2], voltages)
        self._compare_drives(voltages)
        return self._currents(voltages)

    def _compare_drives(self, voltages: Tensor) -> None:
        """Count row voltages beyond the measurements of the device's parameter set."""
        if count := drives_outside(self.spec, voltages):
            self.beyond_measured["voltage"] = self.beyond_measured.get("voltage", 0) + count

    @abstractmethod
    def _currents(self, voltages: Tensor) -> Tensor: ...

    @property
    def matrix(self) -> Tensor | None:
        """W (*tiles, rows, cols) [S] where I = V W is all that a read does; None where it does more."""
        return None

    @property
    def products(self) -> Products | None:
        """The read as matrix products, for whoever lays them out otherwise; None where it is none.

        Good up to `largest_voltage`. Made at every call.
        """
        return None if self.matrix is None else Products(Term.linear(self.matrix))

    @property
    def largest_voltage(self) -> float:
        """Rows up to this voltage [V], of either sign, certainly stay where the model holds."""
        return math.inf

    def cell_voltages(self, voltages: Float[Tensor, "*tiles batch rows"]) -> Float[Tensor, "*tiles batch rows cols"]:
        """Voltage over every cell [V], row line minus column line."""
        raise NotAvailable(
            f"{type(self).__name__} knows no cell voltages", hint="program the same conductances on NodalTile"
        )

    def power(self, voltages: Float[Tensor, "*tiles batch rows"]) -> Float[Tensor, "*tiles batch"]:
        """Power that the row drivers deliver [W], the drop over their own resistance included."""
        raise NotAvailable(f"{type(self).__name__} knows no power", hint="program the same conductances on NodalTile")


def check_conductances(spec: TileSpec, conductances: Tensor) -> None:
    """One clear error for conductances that no tile of `spec` can hold."""
    if conductances.ndim < 2 or tuple(conductances.shape[-2:]) != (spec.rows, spec.cols):
        raise InputError(
            "conductances have the wrong shape",
            value=tuple(conductances.shape),
            limit=f"(*tiles, {spec.rows}, {spec.cols})",
            hint="the last two dimensions are the rows and columns of the TileSpec",
        )
    if not conductances.is_floating_point():
        raise InputError("conductances must be floating point", value=conductances.dtype, limit="float32 or float64")
    bad = ~(torch.isfinite(conductances) & (conductances >= 0))
    if bool(bad.any()):
        first = tuple(int(index) for index in bad.nonzero()[0])
        raise InputError(
            f"{int(bad.sum())} conductances are negative or not finite",
            where=f"index {first}",
            value=f"{float(conductances[first])} S",
            limit="0 S or more, finite",
        )


def check_voltages(spec: TileSpec, tiles: torch.Size, voltages: Tensor) -> float:
    """One clear error for voltages that cannot be applied to tiles with leading dimensions `tiles`; else the largest.

    Reads of a few matmuls are short: what is right is told so by two look-ups and one pass over the voltages.
    """
    plain = voltages.ndim == 2 or (voltages.ndim > 2 and voltages.shape[:-2] == tiles)
    if plain and voltages.shape[-1] == spec.rows and voltages.is_floating_point() and voltages.numel():
        low, high = voltages.detach().aminmax()
        largest = max(-float(low), float(high))
        if math.isfinite(largest):
            return largest
    if voltages.ndim < 2 or voltages.shape[-1] != spec.rows:
        raise InputError(
            "voltages have the wrong shape",
            value=tuple(voltages.shape),
            limit=f"(*tiles, batch, {spec.rows})",
            hint="the last dimension is the rows of the TileSpec; a single vector is voltages[None, :]",
        )
    try:
        torch.broadcast_shapes(voltages.shape[:-2], tiles)
    except RuntimeError:
        raise InputError(
            "the leading dimensions of the voltages do not broadcast against those of the conductances",
            value=tuple(voltages.shape[:-2]),
            limit=tuple(tiles),
        ) from None
    if not voltages.is_floating_point():
        raise InputError("voltages must be floating point", value=voltages.dtype, limit="float32 or float64")
    bad = ~torch.isfinite(voltages)
    if bool(bad.any()):
        first = tuple(int(index) for index in bad.nonzero()[0])
        raise InputError(
            f"{int(bad.sum())} voltages are not finite", where=f"index {first}", value=float(voltages[first])
        )
    return float(voltages.detach().abs().max()) if voltages.numel() else 0.0
