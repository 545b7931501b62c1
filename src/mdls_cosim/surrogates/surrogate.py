"""What every surrogate is: a tile model fitted to SPICE that knows its domain and its error."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mdls_cosim import store
from mdls_cosim.errors import StoreError
from mdls_cosim.fidelity import Programmed, TileModel
from mdls_cosim.fidelity.interface import check_voltages
from mdls_cosim.provenance import Provenance, content_hash
from mdls_cosim.quantities import format_quantity
from mdls_cosim.surrogates.domain import Domain, Guarded, HeldOutError
from mdls_cosim.tiles import TileSpec

ENCODING_TYPE = "mdls_cosim.surrogate"
ENCODING_VERSION = "1"

# Data sit exactly on the edges of the ranges that they set.
_EDGE = 1e-6
_LIMITS = ("conductance", "size", "temperature", "input voltage", "cell voltage")
# Temperatures within this of the fitted one count as equal [K].
_KELVIN = 1.0


class Surrogate(Guarded, TileModel):
    """A tile model of a few matmuls, fitted to SPICE.

    Attributes:
        spec: the tile with its fitted electrical parameters.
        reference_spec: the tile that ngspice simulated for the fit; absent where the data were measured.
        domain: the ranges that the fit saw. The first use outside is a DomainWarning, and all are counted by what is
            programmed.
        strict: a use outside the domain is a DomainError.
        error: on data held out from the fit; absent where nothing was fitted.
        provenance: where it came from.
        coefficients: of the kind's own terms.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Surrogate]]] = {}

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        Surrogate._kinds[cls.kind] = cls

    def __init__(
        self,
        spec: TileSpec,
        *,
        reference_spec: TileSpec | None = None,
        domain: Domain | None = None,
        error: HeldOutError | None = None,
        coefficients: Mapping[str, tuple[float, ...]] | None = None,
        parents: tuple[str, ...] = (),
        tools: Mapping[str, str] | None = None,
        seed: int | None = None,
    ) -> None:
        self.spec = spec
        self.reference_spec = reference_spec
        self.domain = domain or Domain(rows=spec.rows, cols=spec.cols)
        self.error = error
        self.coefficients = {
            name: tuple(float(each) for each in values) for name, values in (coefficients or {}).items()
        }
        config = self._config()
        self.provenance = Provenance.create({}, config, seed=seed, tools=tools, parents=parents)

    def for_tile(self, **changes: Any) -> Self:
        """The same fit for another tile: `rows`, `cols`, `temperature`, or whatever else of its TileSpec.

        The domain stays, so that tiles larger than the fitted one and another temperature count as outside of it.
        """
        other = copy.copy(self)
        other.spec = self.spec.replace(**changes)
        other.forget_told()
        return other

    def _config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "spec": self.spec.as_dict(),
            "reference_spec": None if self.reference_spec is None else self.reference_spec.as_dict(),
            "domain": self.domain.as_dict(),
            "error": None if self.error is None else self.error.as_dict(),
            "coefficients": {name: list(values) for name, values in self.coefficients.items()},
        }

    @abstractmethod
    def _program(self, conductances: Tensor) -> ProgrammedSurrogate: ...

    def save(self, path: str | Path) -> None:
        """Writes an HDF5 file, whole or not at all.

        Raises:
            StoreError: the file cannot be written.
        """
        attributes = {**self._config(), "provenance": self.provenance.as_dict()}
        store.write(Path(path), store.Group(ENCODING_TYPE, ENCODING_VERSION, attributes, {}, {}))

    @classmethod
    def _from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        reference, error = attributes["reference_spec"], attributes["error"]
        loaded = cls(
            TileSpec(**attributes["spec"]),
            reference_spec=None if reference is None else TileSpec(**reference),
            domain=Domain(**attributes["domain"]),
            error=None if error is None else HeldOutError(**error),
            coefficients=attributes["coefficients"],
        )
        loaded.provenance = Provenance(**attributes["provenance"])
        return loaded


def load(path: str | Path, *, strict: bool = False) -> Surrogate:
    """Reads a surrogate of any kind.

    Args:
        strict: uses outside its domain raise a DomainError, instead of a warning and a count.

    Raises:
        StoreError: the file is missing, truncated, altered, of another program or of a newer version.
    """
    group = store.read(Path(path), ENCODING_TYPE, ENCODING_VERSION)
    kind = group.attributes.get("kind")
    if kind not in Surrogate._kinds:
        raise StoreError(
            "the file holds an unknown kind of surrogate",
            where=str(path),
            value=kind,
            limit=", ".join(sorted(Surrogate._kinds)),
            hint="a newer mdls_cosim may know it",
        )
    try:
        told = {name: value for name, value in group.attributes.items() if name != "provenance"}
        origin = group.attributes["provenance"]
        if told != origin["config"] or content_hash({}, told) != origin["content_hash"]:
            raise StoreError("its content is not what its content hash says", where=str(path))
        loaded = Surrogate._kinds[kind]._from_attributes(group.attributes)
    except (LookupError, TypeError, ValueError) as error:
        raise StoreError(f"not laid out as a surrogate ({error})", where=str(path)) from error
    loaded.strict = strict
    return loaded


class ProgrammedSurrogate(Programmed):
    """Programmed tiles that count what lies outside the surrogate's domain.

    Attributes:
        reads: inputs read so far, one for every tile and vector.
        outside: how many cells (`conductance`) and tiles (`size`, `temperature`) were programmed and how many reads
            (`input voltage`, `cell voltage`) were asked for outside the domain.
    """

    def __init__(self, surrogate: Surrogate, conductances: Tensor, own_shares: Tensor | None) -> None:
        super().__init__(surrogate.spec, conductances)
        self.domain = domain = surrogate.domain
        self.reads = 0
        self.outside: dict[str, int] = dict.fromkeys(_LIMITS, 0)
        self._surrogate = surrogate
        # The largest share of each row's own voltage that any of its cells sees: (*tiles, rows).
        self._largest_share = None if own_shares is None else own_shares.detach().amax(-1)
        spec, tiles = surrogate.spec, conductances.shape[:-2].numel()
        self._tiles, self._inside = tiles, self._least_limit()
        if domain.conductances is not None:
            low, high = domain.conductances
            beyond = (conductances < low * (1 - _EDGE)) | (conductances > high * (1 + _EDGE))
            if count := int(beyond.sum()):
                found = conductances.detach()[beyond]
                span = f"{format_quantity(float(found.min()), 'siemens', 3)} to "
                span += format_quantity(float(found.max()), "siemens", 3)
                limits = " to ".join(format_quantity(end, "siemens", 3) for end in (low, high))
                self._tell("conductance", count, span, limits)
        largest = (domain.rows or spec.rows, domain.cols or spec.cols)
        if spec.rows > largest[0] or spec.cols > largest[1]:
            self._tell("size", tiles, f"{spec.rows}x{spec.cols}", f"up to {largest[0]}x{largest[1]}")
        if domain.temperature is not None and abs(spec.temperature - domain.temperature) > _KELVIN:
            self._tell("temperature", tiles, f"{spec.temperature:g} K", f"{domain.temperature:g} K")

    def _least_limit(self) -> float:
        """Largest row voltage [V] that certainly keeps every cell within the domain."""
        limits = [math.inf]
        if self.domain.input_voltage is not None:
            limits.append(self.domain.input_voltage)
        if self.domain.cell_voltage is not None and self._largest_share is not None and self._largest_share.numel():
            limits.append(self.domain.cell_voltage / max(float(self._largest_share.max()), 1e-30))
        return min(limits) * (1 + _EDGE)

    @property
    def largest_voltage(self) -> float:
        return self._inside

    def _tell(self, limit: str, count: int, value: str, allowed: str) -> None:
        self.outside[limit] += count
        self._surrogate.tell_outside(limit, count, value, allowed)

    def __call__(self, voltages: Tensor) -> Tensor:
        largest = check_voltages(self.spec, self.conductances.shape[:-2], voltages)
        currents = self._currents(voltages)
        if largest <= self._inside and voltages.ndim == 2:
            self.reads += self._tiles * len(voltages)  # nothing to look for
        else:
            with torch.no_grad():
                self._count(voltages.detach())
        return currents

    def _count(self, voltages: Tensor) -> None:
        tiles = torch.broadcast_shapes(voltages.shape[:-2], self.conductances.shape[:-2])
        copies = tiles.numel() // max(1, voltages.shape[:-2].numel())  # a vector broadcast to several tiles
        self.reads += tiles.numel() * voltages.shape[-2]
        magnitude = voltages.abs()
        for limit, allowed, over in (
            ("input voltage", self.domain.input_voltage, magnitude),
            # A lower bound that costs nothing: other rows can only add to it when they have the other sign.
            ("cell voltage", self.domain.cell_voltage, self._over_cells(magnitude)),
        ):
            if allowed is None or over is None:
                continue
            largest = over.amax(-1)
            count = int((largest > allowed * (1 + _EDGE)).sum()) * (copies if limit == "input voltage" else 1)
            if count:
                self._tell(limit, count, f"{float(largest.max()):.4g} V", f"{allowed:.4g} V of either sign")

    def _over_cells(self, magnitude: Tensor) -> Tensor | None:
        """The largest voltage that each row's own drive puts over one of its cells [V]."""
        return None if self._largest_share is None else magnitude * self._largest_share[..., None, :].to(magnitude)
