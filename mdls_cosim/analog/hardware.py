"""Everything about the hardware under a layer, in one frozen object."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field, field_serializer, model_validator

from mdls_cosim.analog.accumulator import Accumulator
from mdls_cosim.analog.acting import Acting, acting
from mdls_cosim.analog.adc import AnyAdc, IdealAdc
from mdls_cosim.analog.dac import AnyDac, IdealDac
from mdls_cosim.analog.grouping import GroupTiles
from mdls_cosim.analog.mapping import Mapping, MappingName, Scaling
from mdls_cosim.analog.partition import RowOrder
from mdls_cosim.config import AbsentIsNone, Config
from mdls_cosim.devices import Ohmic
from mdls_cosim.devices.variability import Cells, DeviceToDevice, Variability
from mdls_cosim.devices.variability.device_to_device import CONDUCTANCE
from mdls_cosim.errors import ConfigError, InputError, NotAvailable
from mdls_cosim.fidelity import IdealTile, NodalTile, SpiceTile, TileModel
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.quantities import Amplitude, Conductance, Unit, describe
from mdls_cosim.surrogates import LinearSurrogate, Surrogate
from mdls_cosim.tiles import SelectorCell, SubcircuitCell, TileSpec, TransistorCell

Rung = Literal["ideal", "surrogate", "nodal", "spice"]


OPEN = 1e-15
"""Conductance [S] of a cell that a draw has opened, where 0 S is none of its resistances."""


class Hardware(Config):
    """Tiles, the rung that computes them, the mapping of weights and the periphery.

    The same object serves any number of layers. Change it by copy: `hardware.replace(rung="nodal")`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tile: TileSpec | TileModel
    """The crossbar: a TileSpec, or a surrogate (fitted or loaded), which knows the TileSpec it stands for."""
    rung: Rung = "surrogate"
    """How tiles are computed: `ideal` (V G), `surrogate`, `nodal` (exact Kirchhoff solution) or `spice` (ngspice).
    A surrogate rung on a bare TileSpec is exact for ohmic cells; other cells need a fitted surrogate as `tile`."""
    mapping: MappingName = "pair"
    """How a signed weight becomes conductances; see `analog.mapping.Mapping`."""
    states: Annotated[int, Field(ge=2, strict=True)] | None = None
    """Number of uniform conductance levels over the range; None: continuous."""
    slices: Annotated[int, Field(ge=1, le=16, strict=True)] = 1
    """Cells that share a weight, as digits to the base `states`; each has its own array, and its own ADC."""
    scaling: Scaling = "layer"
    """What the largest weight, which takes the whole conductance range, is searched in."""
    row_order: RowOrder = "auto"
    """Which inputs share a row tile: whole `channels`, one of the `taps` of a kernel, or `dense`; `auto`: the fewest
    tiles, and of equal ones that which runs as a convolution."""
    group_tiles: GroupTiles = "shared"
    """Where the groups of a grouped convolution sit: `shared`, side by side on one tile as a block-diagonal matrix, as
    many as its rows and columns hold; or `separate`, every group on tiles of its own."""
    placement: Literal["linear", "permuted"] = "linear"
    """Where inputs and outputs sit in a tile: in order, or by their load, the strongest rows nearest the sense side and
    the strongest columns nearest the driver, where they cause the least drop."""
    dac: AnyDac = IdealDac()
    """Turns activations into row voltages."""
    adc: AnyAdc = IdealAdc()
    """Reads the column currents of every tile."""
    accumulator: Accumulator = Accumulator()
    """Adds up what the ADCs of all row tiles say."""
    conductance_range: Annotated[tuple[Conductance, Conductance], AbsentIsNone] = cast("tuple[float, float]", None)
    """Lowest and highest conductance that weights are mapped to [S]. Absent: the domain of the surrogate, else the
    range of the device, else 1 - 100 uS (ohmic and sinh devices, subcircuits)."""
    read_voltage: Amplitude = 0.2
    """Row voltage of the activation at full scale [V]."""
    subtraction: Literal["analog", "digital"] = "analog"
    """Where the two arrays of a pair are subtracted: `analog`, currents before one ADC, or `digital`, after two."""
    variability: Variability = Variability()
    """Spread, errors and ageing of the cells. Absent: those of the parameter set that the cell names, if it has any
    (`[variability]` of the set), else none; `Variability()` or `{effects = []}`: none in any case. What a configured
    effect cannot change here is an error; effects of a parameter set that cannot act are in `left_out`."""
    cycles: Annotated[float, Unit("cycles"), Field(ge=0, allow_inf_nan=False)] = 0.0
    """Switching cycles that every cell has behind it (`Endurance`)."""
    attention: Literal["digital", "tiles"] = "digital"
    """Where the two products of attention are computed, Q K^T and A V: on `tiles`, K and V are written to them for
    every sequence and head; see `AnalogProduct`."""
    read_noise: Literal["every read", "frozen", "off"] = "every read"
    """When `ReadNoise` is drawn: for every vector, column and conversion anew (to first order, `read_noise.py`); once
    a moment, as other conductances (`Moment.read` redraws it); or never."""
    weight_clip: Annotated[float, Unit("root mean squares"), Field(gt=0, allow_inf_nan=False)] | None = None
    """Weights beyond this multiple of the layer's root mean square are clipped; None: max |w| is the scale."""
    unmapped_conductance: Conductance | None = None
    """Target of the cells that no weight maps to [S]; None: the lowest of the range."""

    @classmethod
    def checked(cls, hardware: Hardware) -> Hardware:
        """`hardware`, if it is some.

        Raises:
            InputError: it is something else, as a tile alone.
        """
        if isinstance(hardware, Hardware):
            return hardware
        tile = "Hardware(tile=…) makes hardware of a tile" if isinstance(hardware, TileSpec | TileModel) else None
        raise InputError("no hardware", value=type(hardware).__name__, limit="a Hardware", hint=tile)

    @model_validator(mode="after")
    def _check(self) -> Hardware:
        if self.conductance_range is None:
            self._derive("conductance_range", self._derived_range())
        lowest, highest = self.conductance_range
        if not lowest < highest:
            raise ConfigError(
                "the conductance range is empty",
                where="conductance_range",
                value=f"({lowest} S, {highest} S)",
                limit="lowest < highest",
            )
        self.spec.check_conductances("conductance_range", lowest, highest)
        if self.unmapped_conductance is not None:
            self.spec.check_conductances("unmapped_conductance", self.unmapped_conductance)
        self.weight_mapping.outputs_per_tile(self.spec.cols)
        if "variability" not in self.model_fields_set and (of_set := self._variability_of_set()) is not None:
            self._derive("variability", of_set)
        _ = self.acting  # refuses what cannot act
        if self.accumulator.bits is not None and isinstance(self.adc, IdealAdc):
            raise ConfigError(
                "a finite accumulator adds codes, and an ideal ADC has none",
                where="accumulator.bits",
                value=self.accumulator.bits,
                hint="give the ADC bits, or leave out accumulator.bits",
            )
        return self

    @field_serializer("tile")
    def _describe_tile(self, tile: TileSpec | TileModel) -> dict[str, Any]:
        if isinstance(tile, TileSpec):
            return tile.as_dict()
        return {"surrogate": type(tile).__name__, "spec": tile.spec.as_dict()}

    def extra_description(self) -> dict[str, Any]:
        """A surrogate as the tile that it stands for."""
        if isinstance(self.tile, TileSpec):
            return {}
        return {"tile": {"surrogate": type(self.tile).__name__, **describe(self.spec)}}

    @property
    def spec(self) -> TileSpec:
        """The crossbar as a circuit, whatever computes it."""
        return self.tile if isinstance(self.tile, TileSpec) else self.tile.spec

    @property
    def cells(self) -> Cells | None:
        """The device in the cells, for effects that go through its equations; None in subcircuits of one's own."""
        device = self.spec.device
        return None if device is None else Cells(device, self.spec.reference_voltage, self.read_voltage)

    @property
    def least_conductance(self) -> float:
        """Least conductance [S] that a cell can be given: above 0 S where a user's cell is set by a resistance."""
        cell = self.spec.cell
        return OPEN if isinstance(cell, SubcircuitCell) and cell.state.quantity == "resistance" else 0.0

    @cached_property
    def acting(self) -> Acting:
        """The effects of `variability` that act on this hardware, and those of a parameter set that cannot."""
        return acting(self)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Effects of a parameter set that cannot act in a network on this hardware, each with the reason."""
        return self.acting.left_out

    @property
    def takes_devices(self) -> bool:
        """Whether the rung computes tiles with a device of its own in every cell."""
        if self.rung == "surrogate":
            return self.tile.takes_devices if isinstance(self.tile, TileModel) else True
        return self.rung == "nodal"

    @property
    def spreads_parameters(self) -> bool:
        """Whether a parameter of the device differs from cell to cell."""
        return any(
            isinstance(effect, DeviceToDevice) and effect.parameter != CONDUCTANCE
            for effect in self.acting.variability.effects
        )

    def read_spec(self, spec: TileSpec) -> TileSpec:
        """`spec` with cells that can hold whatever the actual devices show.

        Where a parameter of an ohmic device spreads, an ohmic cell of the same conductance computes the same read, and
        the nominal device would not reach it.
        """
        cell, device = spec.cell, spec.device
        if device is None or not device.linear or not self.spreads_parameters:
            return spec
        ohmic = Ohmic(activation_energy=device.activation_energy)
        if isinstance(cell, SelectorCell | TransistorCell):
            return spec.replace(cell=cell.replace(device=ohmic))
        return spec.replace(cell=ohmic)

    def _variability_of_set(self) -> Variability | None:
        """That of the parameter set which the device of the cells was made of, if it has any."""
        device = self.spec.device
        origin = None if device is None else device.origin
        if origin is None or origin.variability is None:
            return None
        return Variability.of_set(origin.variability, origin.name)

    def _derived_range(self) -> tuple[float, float]:
        """The conductance range where none is given [S]: of the surrogate's domain, as far as the device reaches, or of
        the tile."""
        tile = self.tile
        lowest, highest = self.spec.conductance_range
        domain = tile.domain.conductances if isinstance(tile, Surrogate) else None
        if domain is None:
            return lowest, highest
        device = self.spec.device
        if device is not None:
            lowest, highest = (float(end) for end in device.conductance_range(self.spec.reference_voltage))
            return max(lowest, domain[0]), min(highest, domain[1])
        return domain

    @property
    def weight_mapping(self) -> Mapping:
        """How weights sit on cells."""
        return Mapping(self.mapping, self.states, self.slices)

    @property
    def random(self) -> bool:
        """Whether two chips of this hardware may differ."""
        adc = self.adc
        errors = isinstance(adc, IdealAdc) or not (
            adc.offset or adc.gain_error or adc.integral_nonlinearity or adc.noise
        )
        return bool(self.acting.variability.effects) or not errors

    def tile_model(self, temperature: float | None = None) -> TileModel:
        """What computes a tile on this rung.

        Args:
            temperature: of the tile [K]; None: that of its TileSpec.

        Raises:
            ConfigError: the surrogate rung on a TileSpec whose cells are not ohmic.
        """
        tile = self.tile
        if temperature is not None and temperature != self.spec.temperature:
            if isinstance(tile, TileSpec):
                tile = tile.replace(temperature=temperature)
            elif isinstance(tile, Surrogate):
                tile = tile.for_tile(temperature=temperature)
            else:
                raise NotAvailable(
                    f"another temperature of {type(tile).__name__}", hint="Give Hardware a TileSpec or a Surrogate."
                )
        spec = tile if isinstance(tile, TileSpec) else tile.spec
        if (read := self.read_spec(spec)) is not spec:
            tile = tile.for_tile(cell=read.cell) if isinstance(tile, Surrogate) else read
            spec = read
        match self.rung:
            case "ideal":
                return IdealTile(spec)
            case "nodal":
                return NodalTile(spec)
            case "spice":
                return SpiceTile(spec)
            case "surrogate":
                return self._surrogate(tile)

    def _surrogate(self, tile: TileSpec | TileModel) -> TileModel:
        if not isinstance(tile, TileSpec):
            return tile
        if not cell_law(tile).linear:
            raise ConfigError(
                f"a bare TileSpec has an exact surrogate for ohmic cells only; {type(tile.cell).__name__} cells "
                "need a fitted one",
                where="Hardware(tile=…, rung='surrogate')",
                hint="characterize the tile, fit the dataset and pass Hardware(tile=fit(dataset)), or load(FILE.h5); "
                "or choose rung='nodal'",
            )
        return LinearSurrogate.exact(tile)
