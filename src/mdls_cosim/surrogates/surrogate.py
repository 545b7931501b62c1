"""What every surrogate is: a tile model fitted to SPICE that knows its domain and its error."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mdls_cosim import store
from mdls_cosim.errors import StoreError
from mdls_cosim.fidelity import Programmed, TileModel
from mdls_cosim.provenance import Provenance
from mdls_cosim.surrogates.domain import Domain, HeldOutError
from mdls_cosim.tiles import TileSpec

ENCODING_TYPE = "mdls_cosim.surrogate"
ENCODING_VERSION = "1"

# Data sit exactly on the edges of the ranges that they set.
_EDGE = 1e-6


class Surrogate(TileModel):
    """A tile model of a few matmuls, fitted to SPICE.

    Attributes:
        spec: the tile with its fitted electrical parameters.
        reference_spec: the tile that ngspice simulated for the fit; absent where the data were measured.
        domain: the ranges that the fit saw.
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
        self.coefficients = {name: tuple(values) for name, values in (coefficients or {}).items()}
        config = self._config()
        self.provenance = Provenance.create({}, config, seed=seed, tools=tools, parents=parents)

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


def load(path: str | Path) -> Surrogate:
    """Reads a surrogate of any kind.

    Raises:
        StoreError: the file is missing, truncated, altered, of another program or of a newer version.
    """
    group = store.read(Path(path), expected_type=ENCODING_TYPE)
    kind = group.attributes.get("kind")
    if kind not in Surrogate._kinds:
        raise StoreError(
            "the file holds an unknown kind of surrogate",
            where=str(path),
            value=kind,
            limit=", ".join(sorted(Surrogate._kinds)),
            hint="a newer mdls_cosim may know it",
        )
    return Surrogate._kinds[kind]._from_attributes(group.attributes)


class ProgrammedSurrogate(Programmed):
    """Programmed tiles that count what lies outside the surrogate's domain.

    Attributes:
        reads: inputs read so far, one for every tile and vector.
        outside: how many cells (`conductance`) were programmed and how many reads (`input voltage`, `cell voltage`)
            were asked for outside the domain.
    """

    def __init__(self, surrogate: Surrogate, conductances: Tensor, own_shares: Tensor | None) -> None:
        super().__init__(surrogate.spec, conductances)
        self.domain = surrogate.domain
        self.reads = 0
        self.outside = {"conductance": 0, "input voltage": 0, "cell voltage": 0}
        # The largest share of each row's own voltage that any of its cells sees: (*tiles, rows).
        self._largest_share = None if own_shares is None else own_shares.detach().amax(-1)
        if self.domain.conductances is not None:
            low, high = self.domain.conductances
            outside = (conductances < low * (1 - _EDGE)) | (conductances > high * (1 + _EDGE))
            self.outside["conductance"] = int(outside.sum())

    def __call__(self, voltages: Tensor) -> Tensor:
        currents = super().__call__(voltages)
        with torch.no_grad():
            self._count(voltages.detach())
        return currents

    def _count(self, voltages: Tensor) -> None:
        tiles = torch.broadcast_shapes(voltages.shape[:-2], self.conductances.shape[:-2])
        copies = tiles.numel() // max(1, voltages.shape[:-2].numel())  # a vector broadcast to several tiles
        self.reads += tiles.numel() * voltages.shape[-2]
        magnitude = voltages.abs()
        limit = self.domain.input_voltage
        if limit is not None:
            self.outside["input voltage"] += copies * int((magnitude.amax(-1) > limit * (1 + _EDGE)).sum())
        limit = self.domain.cell_voltage
        if limit is not None and self._largest_share is not None:
            # A lower bound that costs nothing: other rows can only add to it when they have the other sign.
            over_cells = (magnitude * self._largest_share[..., None, :].to(magnitude)).amax(-1)
            self.outside["cell voltage"] += int((over_cells > limit * (1 + _EDGE)).sum())
