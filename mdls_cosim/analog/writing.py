"""What the conductances of a chip stand for: on other hardware the same numbers would be other weights."""

from __future__ import annotations

from typing import Any, NamedTuple, cast, get_args

import torch
from torch import Tensor

from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.mapping import MappingName
from mdls_cosim.analog.partition import Partition, RowOrder

_NAMES: dict[str, tuple[str, ...]] = {"mapping": get_args(MappingName), "row_order": get_args(RowOrder)}


class Writing(NamedTuple):
    """Whatever of its hardware a chip cannot be read without; the placement is in the chip itself."""

    mapping: MappingName
    slices: int
    states: int | None
    row_order: RowOrder
    """As it was resolved; "dense" where all orders are one."""
    lowest_conductance: float
    """[S]"""
    highest_conductance: float
    """[S]"""
    read_voltage: float
    """[V]; ranges of ADCs are those of the currents under it."""

    @classmethod
    def of(cls, hardware: Hardware, partition: Partition) -> Writing:
        order = partition.order if partition.taps > 1 and partition.row_tiles > 1 else "dense"
        lowest, highest = hardware.conductance_range
        return cls(hardware.mapping, hardware.slices, hardware.states, order, lowest, highest, hardware.read_voltage)

    def as_tensor(self) -> Tensor:
        """(7,) numbers, names as their places among all names: what every format of weights can hold."""
        numbers = [_NAMES[name].index(value) if name in _NAMES else value or 0 for name, value in self._pairs]
        return torch.tensor(numbers, dtype=torch.float64)

    @classmethod
    def from_tensor(cls, numbers: Tensor) -> Writing:
        """What `as_tensor` gave."""
        mapping, slices, states, order, *rest = numbers.tolist()
        names = _NAMES["mapping"][int(mapping)], _NAMES["row_order"][int(order)]
        return cls(cast("MappingName", names[0]), int(slices), int(states) or None, cast("RowOrder", names[1]), *rest)

    def difference(self, other: Writing) -> tuple[str, Any, Any] | None:
        """Name and both values of the first field that differs; None where all are equal."""
        both = zip(self._pairs, other, strict=True)
        return next(((name, own, its) for (name, own), its in both if own != its), None)

    @property
    def _pairs(self) -> list[tuple[str, Any]]:
        return list(zip(self._fields, self, strict=True))
