"""Everything about the hardware under a layer, in one frozen object."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_serializer, model_validator

from mdls_cosim.analog.mapping import ProgrammingError
from mdls_cosim.analog.periphery import AnyAdc, AnyDac, IdealAdc, IdealDac
from mdls_cosim.config import Config
from mdls_cosim.errors import ConfigError
from mdls_cosim.fidelity import IdealTile, NodalTile, SpiceTile, TileModel
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.quantities import Amplitude, Conductance
from mdls_cosim.surrogates import LinearSurrogate
from mdls_cosim.tiles import TileSpec

Rung = Literal["ideal", "surrogate", "nodal", "spice"]


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
    states: Annotated[int, Field(ge=2, strict=True)] | None = None
    """Number of uniform conductance levels over the range; None: continuous."""
    dac: AnyDac = IdealDac()
    """Turns activations into row voltages."""
    adc: AnyAdc = IdealAdc()
    """Reads the column currents of every tile."""
    conductance_range: tuple[Conductance, Conductance] = (1e-6, 100e-6)
    """Lowest and highest conductance that weights are mapped to [S]."""
    read_voltage: Amplitude = 0.2
    """Row voltage of the activation at full scale [V]."""
    subtraction: Literal["analog", "digital"] = "analog"
    """Where the two arrays of a pair are subtracted: `analog`, currents before one ADC, or `digital`, after two."""
    programming_error: ProgrammingError | None = None
    """Spread of the programmed conductances; None: every cell holds its target exactly."""
    weight_clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Weights beyond this multiple of the layer's root mean square are clipped; None: max |w| is the scale."""
    unmapped_conductance: Conductance | None = None
    """Target of the cells that no weight maps to [S]; None: the lowest of the range."""

    @model_validator(mode="after")
    def _check(self) -> Hardware:
        lowest, highest = self.conductance_range
        if not lowest < highest:
            raise ConfigError(
                "the conductance range is empty",
                where="conductance_range",
                value=f"({lowest} S, {highest} S)",
                limit="lowest < highest",
            )
        return self

    @field_serializer("tile")
    def _describe_tile(self, tile: TileSpec | TileModel) -> dict[str, Any]:
        if isinstance(tile, TileSpec):
            return tile.as_dict()
        return {"surrogate": type(tile).__name__, "spec": tile.spec.as_dict()}

    @property
    def spec(self) -> TileSpec:
        """The crossbar as a circuit, whatever computes it."""
        return self.tile if isinstance(self.tile, TileSpec) else self.tile.spec

    def tile_model(self) -> TileModel:
        """What computes a tile on this rung.

        Raises:
            ConfigError: the surrogate rung on a TileSpec whose cells are not ohmic.
        """
        match self.rung:
            case "ideal":
                return IdealTile(self.spec)
            case "nodal":
                return NodalTile(self.spec)
            case "spice":
                return SpiceTile(self.spec)
            case "surrogate":
                return self._surrogate()

    def _surrogate(self) -> TileModel:
        if not isinstance(self.tile, TileSpec):
            return self.tile
        if not cell_law(self.tile).linear:
            raise ConfigError(
                f"a bare TileSpec has an exact surrogate for ohmic cells only; {type(self.tile.cell).__name__} cells "
                "need a fitted one",
                where="Hardware(tile=…, rung='surrogate')",
                hint="characterize the tile, fit the dataset and pass Hardware(tile=fit(dataset)), or load(FILE.h5); "
                "or choose rung='nodal'",
            )
        return LinearSurrogate.exact(self.tile)
