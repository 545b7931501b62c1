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
from mdls_cosim.config import check_stored
from mdls_cosim.errors import InputError, StoreError, brief
from mdls_cosim.fidelity import Programmed, TileModel
from mdls_cosim.fidelity.elimination import Wires
from mdls_cosim.fidelity.interface import check_voltages
from mdls_cosim.provenance import Provenance, content_hash
from mdls_cosim.quantities import format_quantity
from mdls_cosim.surrogates.domain import INPUT_SIGNS, Domain, Guarded, HeldOutError
from mdls_cosim.tiles import TileSpec

ENCODING_TYPE = "mdls_cosim.surrogate"
ENCODING_VERSION = "1.1"
# Its domain's cell voltage was held against every row's own drive, without what other rows add.
_OWN_DRIVE_VERSION = "1"

# Data sit exactly on the edges of the ranges that they set.
_EDGE = 1e-6
_LIMITS = ("conductance", "size", "temperature", "input voltage", "input sign", "cell voltage")
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
        encoding_version: of the file that it was read from, or of those that are written now.
    """

    kind: ClassVar[str]
    forms: ClassVar[Mapping[str, int]] = {}
    """Names of the kind's coefficients, and how many numbers each has."""
    encoding_version: str = ENCODING_VERSION
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
        if {name: len(values) for name, values in self.coefficients.items()} != self.forms:
            raise InputError(
                "coefficients of another form of surrogate",
                where=self.kind,
                value=", ".join(f"{name} ({len(values)})" for name, values in self.coefficients.items()) or "none",
                limit=", ".join(f"{name} ({count})" for name, count in self.forms.items()) or "none",
                hint="fit the surrogate again: mdls-cosim fit DATA.h5 --out SURROGATE.h5",
            )
        if not all(math.isfinite(each) for values in self.coefficients.values() for each in values):
            raise InputError("a coefficient that is not finite", where=self.kind, value=self.coefficients)
        if "amplitude" in self.coefficients and not all(each > 0 for each in self.coefficients["amplitude"]):
            raise InputError(
                "a surrogate made for no voltage",
                where="amplitude",
                value=self.coefficients["amplitude"],
                limit="above 0 V",
            )
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
        attributes = {**self._config(), "provenance": self._own_provenance().as_dict()}
        store.write(Path(path), store.Group(ENCODING_TYPE, self.encoding_version, attributes, {}, {}))

    def _own_provenance(self) -> Provenance:
        """The provenance of what would be written now: that of the fit, or of a change of it (`for_tile`, a file of an
        earlier version that lacks fields), whose parent the fit is."""
        origin = self.provenance
        changed = Provenance.create({}, self._config(), seed=origin.seed, tools=origin.tools, parents=origin.parents)
        if changed.content_hash == origin.content_hash:
            return origin
        return changed.replace(parents=(origin.content_hash,))

    @classmethod
    def _from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        reference, error = attributes["reference_spec"], attributes["error"]
        check_stored([attributes["spec"], reference], "the tile of the surrogate")
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
    if not isinstance(kind, str) or kind not in Surrogate._kinds:
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
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"not laid out as a surrogate ({brief(error)})", where=str(path)) from error
    loaded.strict, loaded.encoding_version = strict, group.encoding_version
    return loaded


class ProgrammedSurrogate(Programmed):
    """Programmed tiles that count what lies outside the surrogate's domain.

    Attributes:
        reads: inputs asked for so far, one for every tile and vector, be it for currents, power or cell voltages.
        outside: how many cells (`conductance`) and tiles (`size`, `temperature`) were programmed and how many reads
            (`input voltage`, `input sign`, `cell voltage`) were asked for outside the domain.
    """

    def __init__(self, surrogate: Surrogate, conductances: Tensor, own_shares: Tensor | None) -> None:
        super().__init__(surrogate.spec, conductances)
        self.domain = domain = surrogate.domain
        self.reads = 0
        self.outside: dict[str, int] = dict.fromkeys(_LIMITS, 0)
        self._surrogate = surrogate
        # The largest share of each row's own voltage that any of its cells sees: (*tiles, rows).
        self._largest_share = None if own_shares is None else own_shares.detach().amax(-1)
        shares = self._largest_share
        self._share = float(shares.max()) if shares is not None and shares.numel() else 0.0
        self._line = 0.0 if surrogate.encoding_version == _OWN_DRIVE_VERSION else _line_resistance(surrogate.spec)
        self._most: float | None = None  # from the first read on
        spec, tiles = surrogate.spec, conductances.shape[:-2].numel()
        self._unseen_signs = set() if domain.input_signs is None else set(INPUT_SIGNS) - set(domain.input_signs)
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
        """Largest voltage [V] of rows of one sign that certainly keeps every cell within the domain."""
        limits = [math.inf]
        if self.domain.input_voltage is not None:
            limits.append(self.domain.input_voltage)
        if self.domain.cell_voltage is not None and self._share:
            limits.append(self.domain.cell_voltage / self._share)
        return min(limits) * (1 + _EDGE)

    @property
    def largest_voltage(self) -> float:
        """Rows up to this voltage [V], all of one sign, certainly stay within the domain: 0 V where the fit has not
        seen every sign. `watch` checks the others."""
        return 0.0 if self._unseen_signs else self._inside

    def _tell(self, limit: str, count: int, value: str, allowed: str) -> None:
        self.outside[limit] += count
        self._surrogate.tell_outside(limit, count, value, allowed)

    def __call__(self, voltages: Tensor) -> Tensor:
        largest = check_voltages(self.spec, self.conductances.shape[:-2], voltages)
        self._compare_drives(voltages)
        currents = self._currents(voltages)
        self.watch(voltages, currents, largest)
        return currents

    def watch(self, voltages: Tensor, currents: Tensor | None, largest: float | None = None) -> None:
        """Counts reads, and which of them lie outside the domain; for whoever computes them otherwise too.

        Args:
            voltages: of the rows, (*tiles, batch, rows) [V].
            currents: of the columns under them, (*tiles, batch, cols) [A]; None: no cell's voltage is looked at.
            largest: of the voltages, where that is known [V].

        Raises:
            InputError: impossible voltages.
            DomainError: a read outside of it, where the surrogate is strict.
        """
        if largest is None:
            largest = check_voltages(self.spec, self.conductances.shape[:-2], voltages)
        inside = largest <= self._inside and not self._unseen_signs
        if inside and voltages.ndim == 2 and not self._rises(voltages, currents):
            self.reads += self._tiles * len(voltages)  # nothing to look for
        else:
            with torch.no_grad():
                self._count(voltages.detach(), None if currents is None else currents.detach())

    def _rises(self, voltages: Tensor, currents: Tensor | None) -> bool:
        """Whether column lines that rise against rows of the other sign could put a cell outside: two quick looks."""
        limit = self.domain.cell_voltage
        if currents is None or limit is None or not self._line or not self._share:
            return False
        if self._most is None:
            self._most = self._most_over_cells(voltages)
        if self._most <= limit:
            return False
        low, high = map(float, voltages.detach().aminmax())
        if low >= 0 or high <= 0 or not currents.numel():
            return False
        least, most = map(float, currents.detach().aminmax())
        over = max(high * self._share - self._line * min(least, 0.0), self._line * max(most, 0.0) - low * self._share)
        return over > limit * (1 + _EDGE)

    def _most_over_cells(self, like: Tensor) -> float:
        """No inputs within the domain put more over a cell [V]: all rows but one, at the largest, against it."""
        largest = self.domain.input_voltage
        if largest is None:
            return math.inf
        with torch.no_grad():
            ends = largest * torch.tensor([[1.0], [-1.0]]).to(like)
            rise = self._line * float(self._currents(ends.expand(2, self.spec.rows)).abs().max())
        return min(2 * largest, self._share * largest + rise)  # rows of a passive circuit differ by no more

    def reach(self, voltages: Tensor, currents: Tensor) -> Tensor | None:
        """The largest voltage over a cell of every read, (*tiles, batch) [V], estimated from what is at hand:

            max over rows of share |V_i| + R max over columns of |I_j| against V_i

        A cell sees its share of its row's voltage, and the rise of its column line where other rows drive the column
        the other way. R is the resistance of a whole column line and its sense side: the estimate is above the exact
        voltage where few rows are against many, which is where it counts. Between rows that are not the largest, and on
        lines that carry more at their middle than at their end, it can be some percent below.

        Args: as of `watch`. None where the shares are not known (ohmic cells, whose law holds at any voltage).
        """
        if self._largest_share is None:
            return None
        shares = self._largest_share[..., None, :].to(voltages)
        up, down = ((sign * voltages).clamp_min(0.0).mul(shares).amax(-1) for sign in (1, -1))
        if not self._line:
            return torch.maximum(up, down)
        low, high = currents.amin(-1).clamp_max(0.0), currents.amax(-1).clamp_min(0.0)
        both = (up > 0) & (down > 0)  # else what currents there are against a row are the surrogate's own error
        return torch.maximum(up - self._line * low * both, down + self._line * high * both)

    def _count(self, voltages: Tensor, currents: Tensor | None) -> None:
        tiles = torch.broadcast_shapes(voltages.shape[:-2], self.conductances.shape[:-2])
        copies = tiles.numel() // max(1, voltages.shape[:-2].numel())  # a vector broadcast to several tiles
        self.reads += tiles.numel() * voltages.shape[-2]
        if self._unseen_signs:
            self._count_signs(voltages, copies)
        for limit, allowed, largest in (
            ("input voltage", self.domain.input_voltage, voltages.abs().amax(-1)),
            ("cell voltage", self.domain.cell_voltage, None if currents is None else self.reach(voltages, currents)),
        ):
            if allowed is None or largest is None:
                continue
            count = int((largest > allowed * (1 + _EDGE)).sum()) * (copies if limit == "input voltage" else 1)
            if count:
                self._tell(limit, count, f"{float(largest.max()):.4g} V", f"{allowed:.4g} V of either sign")

    def _count_signs(self, voltages: Tensor, copies: int) -> None:
        """Counts reads of signs that the fit has not seen; a read at 0 V has none."""
        up, down = (voltages > 0).any(-1), (voltages < 0).any(-1)
        reads = {"positive": up & ~down, "negative": down & ~up, "both": up & down}
        for signs in sorted(self._unseen_signs):
            if count := copies * int(reads[signs].sum()):
                self._tell("input sign", count, signs, f"of the fit: {', '.join(self.domain.input_signs or ())}")


def _line_resistance(spec: TileSpec) -> float:
    """Of a whole column line and its sense side, the worst [ohm]; for currents as the tile hands them over."""
    wires = Wires.of(spec)
    whole = torch.as_tensor(wires.sense) + (spec.rows - 1) * torch.as_tensor(wires.column_line)
    return float(whole.max()) / (1.0 if spec.amplifier is None else spec.amplifier.sensed_share)
