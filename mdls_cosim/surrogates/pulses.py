"""What a pulse does to a conductance, for training: a closed form a cell, fitted to experiment `pulse`.

The result is monotone in conductance and width, never leaves the range of the data, is exact for a pulse of no width,
and has continuous gradients; pulses compose as the device's own do (`pulse_rates`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from mdls_cosim import store
from mdls_cosim.config import Config
from mdls_cosim.errors import ConfigError, InputError, StoreError
from mdls_cosim.provenance import Provenance, content_hash
from mdls_cosim.quantities import SHARE, Amplitude, Conductance, Duration
from mdls_cosim.store import Array
from mdls_cosim.surrogates.domain import Error, Guarded, check_rising
from mdls_cosim.surrogates.pulse_rates import Clock, Rates

ENCODING_TYPE = "mdls_cosim.pulse_surrogate"
ENCODING_VERSION = "1"

DIRECTIONS = ("raising", "lowering")

_EDGE = 1e-6  # data sit exactly on the edges of the ranges that they set


class PulseDomain(Config):
    """Ranges seen by the fit, of pulses that raise and of pulses that lower the conductance."""

    conductances: tuple[Conductance, Conductance]
    """Lowest and highest of all [S]: nothing leaves it."""
    raising: tuple[Conductance, Conductance]
    """Where raising pulses were seen to act [S]."""
    lowering: tuple[Conductance, Conductance]
    """Where lowering ones were [S]."""
    potentiation: tuple[Amplitude, Amplitude]
    """Sizes of raising pulses [V]."""
    depression: tuple[Amplitude, Amplitude]
    """Sizes of lowering ones [V]."""
    widths: tuple[Duration, Duration]
    """Times at full voltage [s]; a pulse of no width is inside too."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        units = dict.fromkeys(("conductances", *DIRECTIONS), "S") | {
            "potentiation": "V",
            "depression": "V",
            "widths": "s",
        }
        for name, unit in units.items():
            check_rising(name, getattr(self, name), unit)
        low, high = self.conductances
        if low == high:
            raise ConfigError(
                "a range of no extent", where="conductances", value=f"{low:g} S", limit="two conductances"
            )
        return self


class PulseError(Config):
    """Errors on trains that the fit never saw, relative to the range of the conductances."""

    train: Annotated[Error, SHARE]
    """RMS after every pulse of a train, each computed from the one before, the first from the start."""
    worst: Annotated[Error, SHARE]
    """The largest of those."""
    step: Annotated[Error, SHARE]
    """RMS of a single pulse from where the device really was."""
    held_out: str
    """Which trains were held out: raising amplitudes (lowering ones likewise), and widths."""


class PulseSurrogate(Guarded):
    """What one pulse does to conductances, whatever their number: `surrogate(conductances, amplitudes, widths)`.

    Attributes:
        domain: the ranges of the fit. The first use outside is a DomainWarning, all are counted in `outside`.
        strict: a use outside the domain is a DomainError.
        error: on held-out trains.
        spread: sigma of the logarithm of the device's speed, from cycle to cycle; 0 where the data had none.
        provenance: where it came from.
        outside: how many cells were asked for outside the domain, by limit.
    """

    def __init__(
        self,
        raising: Rates,
        lowering: Rates,
        domain: PulseDomain,
        *,
        spread: float = 0.0,
        error: PulseError | None = None,
        parents: tuple[str, ...] = (),
        tools: Mapping[str, str] | None = None,
        seed: int | None = None,
    ) -> None:
        if not (math.isfinite(spread) and spread >= 0):
            raise InputError("no spread of the speed", where="spread", value=spread, limit="0 or more, finite")
        self.rates = {"raising": raising, "lowering": lowering}
        self.domain, self.spread, self.error = domain, float(spread), error
        self.provenance = Provenance.create(self._arrays(), self._config(), seed=seed, tools=tools, parents=parents)
        self.outside: dict[str, int] = dict.fromkeys(("conductance", "amplitude", "width"), 0)
        self._clocks = {name: Clock(rates) for name, rates in self.rates.items()}

    def __call__(
        self,
        conductances: Float[Tensor, "*cells"],
        amplitudes: Tensor | float,
        widths: Tensor | float,
        *,
        pulses: Tensor | float = 1.0,
        speeds: Tensor | float = 1.0,
    ) -> Float[Tensor, "*cells"]:
        """Conductances after equal pulses.

        Differentiable in all arguments. Cheapest where `amplitudes` is one number; where each cell has its own, a
        clock of every cell is held, about a kilobyte.

        Args:
            conductances: (*cells) [S].
            amplitudes: size of the pulse [V], positive where it is to raise the conductance and negative where it is
                to lower it, whatever the device's polarity; a number or broadcasting to (*cells).
            widths: time at full voltage [s], likewise.
            pulses: how many, likewise; need not be whole.
            speeds: factor of the device's speed, likewise: of `draw_speeds`.

        Raises:
            InputError: arrays that do not broadcast or are not finite; conductances, widths, numbers of pulses or
                speeds below zero.
            DomainError: outside of the domain, where `strict`.
        """
        cells = _checked("conductances", conductances, conductances, least=0.0)
        given = _checked("amplitudes", amplitudes, cells)
        duration = _checked("widths", widths, cells, least=0.0)
        count = _checked("pulses", pulses, cells, least=0.0)
        speed = _checked("speeds", speeds, cells, least=0.0)
        self._tell(cells.detach(), given.detach(), duration.detach())
        low, high = self.domain.conductances
        along = (cells.double() - low) / (high - low)
        advance = duration.double() * count.double() * speed.double()
        given = given.double()
        if given.ndim == 0:
            name, sign = ("raising", 1) if float(given) >= 0 else ("lowering", -1)
            gain = sign * self._gain(name, along, given.abs(), advance)
        else:
            given, advance = given.expand(cells.shape), advance.expand(cells.shape)
            gain, raises = torch.zeros_like(along), given >= 0
            for name, sign, some in (("raising", 1, raises), ("lowering", -1, ~raises)):
                gain[some] = sign * self._gain(name, along[some], sign * given[some], advance[some])
        moved = conductances + ((high - low) * gain).to(conductances.dtype)
        # Rounding alone could lead out of the range.
        least, most = conductances.clamp(max=low), conductances.clamp(min=high)
        return torch.where(moved < least, least, torch.where(moved > most, most, moved))

    def draw_speeds(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Lognormal factors of the speed, median 1, float64; draw them once a cycle, as experiment `pulse` does."""
        drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
        return torch.exp(self.spread * drawn)

    def _gain(self, name: str, along: Tensor, amplitudes: Tensor, advance: Tensor) -> Tensor:
        return self._clocks[name].flow(along if name == "raising" else 1 - along, amplitudes, advance)

    def _tell(self, cells: Tensor, amplitudes: Tensor, widths: Tensor) -> None:
        """Counts what lies outside the domain; a DomainWarning once a limit, a DomainError where `strict`."""
        domain, raises = self.domain, amplitudes >= 0
        count = cells.numel() // max(1, amplitudes.numel())
        spans = {name: getattr(domain, name) for name in DIRECTIONS}
        low, high = (
            torch.where(raises, spans["raising"][end], spans["lowering"][end]).to(cells.dtype) for end in (0, 1)
        )
        edge = _EDGE * (domain.conductances[1] - domain.conductances[0])
        found = {"conductance": int(((cells < low - edge) | (cells > high + edge)).sum())}
        sizes = amplitudes.abs().double()
        least, most = (
            torch.where(raises, domain.potentiation[end], domain.depression[end]).to(sizes) for end in (0, 1)
        )
        beyond = (sizes > 0) & ((sizes < least * (1 - _EDGE)) | (sizes > most * (1 + _EDGE)))
        found["amplitude"] = count * int(beyond.sum())
        long = widths.double()
        beyond = (long > 0) & ((long < domain.widths[0] * (1 - _EDGE)) | (long > domain.widths[1] * (1 + _EDGE)))
        found["width"] = cells.numel() // max(1, widths.numel()) * int(beyond.sum())
        shown = {"conductance": (cells, "S"), "amplitude": (amplitudes, "V"), "width": (widths, "s")}
        allowed = {
            "conductance": f"{spans['raising']} S raising, {spans['lowering']} S lowering",
            "amplitude": f"{domain.potentiation} V raising, {domain.depression} V lowering",
            "width": f"{domain.widths} s",
        }
        for limit, number in found.items():
            if not number:
                continue
            self.outside[limit] += number
            values, unit = shown[limit]
            span = f"{float(values.min()):.4g} to {float(values.max()):.4g} {unit}"
            self.tell_outside(limit, number, span, allowed[limit])

    def _arrays(self) -> dict[str, Array]:
        arrays = {}
        for name, rates in self.rates.items():
            arrays[f"{name}_amplitudes"] = Array(rates.amplitudes, "V", (f"{name}_amplitude",))
            arrays[f"{name}_knots"] = Array(rates.knots, "1", (f"{name}_knot",))
            arrays[f"{name}_log_rates"] = Array(rates.logs, "1", (f"{name}_amplitude", f"{name}_knot"))
        return arrays

    def _config(self) -> dict[str, Any]:
        error = None if self.error is None else self.error.as_dict()
        return {"domain": self.domain.as_dict(), "spread": self.spread, "error": error}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an HDF5 file, whole or not at all.

        Raises:
            StoreError: the file cannot be written.
        """
        attributes = {**self._config(), "provenance": self.provenance.as_dict()}
        store.write(path, store.Group(ENCODING_TYPE, ENCODING_VERSION, attributes, self._arrays()))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, strict: bool = False) -> Self:
        """Reads what `save` wrote.

        Raises:
            StoreError: the file is missing, truncated, altered, of another program or of a newer version.
        """
        group = store.read(path, ENCODING_TYPE, ENCODING_VERSION)
        try:
            given, arrays = group.attributes, {name: array.values for name, array in group.arrays.items()}
            parts = ("amplitudes", "knots", "log_rates")
            raising, lowering = (Rates(*(arrays[f"{name}_{part}"] for part in parts)) for name in DIRECTIONS)
            error = given["error"]
            loaded = cls(
                raising,
                lowering,
                PulseDomain(**given["domain"]),
                spread=given["spread"],
                error=None if error is None else PulseError(**error),
            )
            loaded.provenance = origin = Provenance(**given["provenance"])
            told = {name: value for name, value in given.items() if name != "provenance"}
            kept = {name: group.arrays[name] for name in loaded._arrays()}
            if wrong := [name for name, array in loaded._arrays().items() if array.units != kept[name].units]:
                raise ValueError(f"{wrong[0]} in {kept[wrong[0]].units}")
            if told != origin.config or content_hash(kept, told) != origin.content_hash:
                raise StoreError("its content is not what its content hash says", where=os.fspath(path))
        except (LookupError, TypeError, ValueError) as error:
            raise StoreError(f"not laid out as a pulse surrogate ({error})", where=os.fspath(path)) from error
        loaded.strict = strict
        return loaded


def _checked(name: str, value: Tensor | float, like: Tensor, least: float | None = None) -> Tensor:
    """`value` as a finite floating-point tensor where `like` lives, that broadcasts to its shape."""
    given = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    if not given.is_floating_point():
        raise InputError("not floating point", where=name, value=given.dtype, limit="float32 or float64")
    given = given.to(like.device)
    try:
        fits = torch.broadcast_shapes(given.shape, like.shape) == like.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise InputError(
            "a shape that does not broadcast to that of the cells",
            where=name,
            value=tuple(given.shape),
            limit=tuple(like.shape),
        )
    with torch.no_grad():
        bad = ~given.isfinite() if least is None else ~(given.isfinite() & (given >= least))
        if bool(bad.any()):
            limit = "finite" if least is None else f"{least:g} or more, finite"
            raise InputError("an impossible value", where=name, value=float(given[bad][0]), limit=limit)
    return given
