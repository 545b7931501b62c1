"""What every analog layer is: weights on programmed tiles between DACs and ADCs."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdls_cosim.analog.adc import AdcErrors, full_scale_from
from mdls_cosim.analog.changes import WeightRecord, fixed, warn_of_change, without_gradient
from mdls_cosim.analog.counters import Counters
from mdls_cosim.analog.dac import Drive, IdealDac, Read
from mdls_cosim.analog.grouping import Grouping
from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.mapping import Scaling, scale_weights
from mdls_cosim.analog.partition import Partition
from mdls_cosim.analog.read_noise import CellNoise, LinearNoise, TileNoise
from mdls_cosim.analog.readers import CONVERSIONS, LaidTerm, Layout, MatrixReader, Reader, TileReader
from mdls_cosim.analog.writing import Writing
from mdls_cosim.devices import ROOM_TEMPERATURE, Device
from mdls_cosim.devices.variability import Outcome, Population, ReadNoise
from mdls_cosim.devices.variability.effect import ReadingEffect
from mdls_cosim.devices.variability.randomness import Randomness
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import Programmed
from mdls_cosim.fidelity.measured_range import drives_outside, programmed_outside
from mdls_cosim.fidelity.memory import keep_freed_memory
from mdls_cosim.quantities import Quantity
from mdls_cosim.surrogates import CurrentNoise, OhmicNoise

READ_ELEMENTS = 2**20
"""Most voltages and currents that a layer holds at a time: inputs are read in chunks of this size."""
HELD = "range of the device"
"""In `Counters.outside`: cells held at the range of their device at a moment."""
CALIBRATION_SAMPLES = 2**16
"""Most currents that a layer keeps to find the range of its ADCs."""


class Disturbance(Protocol):
    """Currents [A] that are added to those of a read, before they are converted."""

    def __call__(self, read: Read, currents: Tensor, tiles: slice, tile_dim: int) -> Tensor:
        """To `currents` [A], a reader's partials of the row tiles `tiles`, in a shape that broadcasts to theirs.

        A read of several parts is asked for part by part.
        """
        ...


@dataclass(frozen=True)
class Moment:
    """When, and how warm, a chip is read."""

    time: float = 0.0
    """Since the programming [s]."""
    temperature: float | None = None
    """[K]; None: that of the TileSpec."""
    read: int = 0
    """Another number redraws the read noise."""

    @classmethod
    def of(cls, time: float | str = 0.0, temperature: float | str | None = None, read: int = 0) -> Moment:
        """From text with units ("1 day", "350 K"), or SI numbers.

        Raises:
            ConfigError: no such time or temperature.
        """
        kelvin = None if temperature is None else Quantity("kelvin", gt=0).check(temperature)
        return cls(Quantity("second", ge=0).check(time), kelvin, read)

    @classmethod
    def checked(cls, moment: Moment) -> Moment:
        """`moment`, if it is one.

        Raises:
            InputError: it is something else, as the text that `of` takes.
        """
        if not isinstance(moment, Moment):
            raise InputError(
                "no moment", value=moment, limit="a Moment", hint='Make one of text and numbers: Moment.of("1 day")'
            )
        return moment


@dataclass(frozen=True)
class Chip:
    """What `program` wrote, and the corrections that were made to it, to be given back with `restore`."""

    state: dict[str, Tensor]
    outcome: dict[str, int]
    moment: Moment
    written: WeightRecord | None = None
    """The weights that it was programmed to."""


class _Tiles(NamedTuple):
    """Programmed tiles, and what they were programmed from."""

    key: tuple[Any, ...]
    programmed: Programmed


class _Reading(NamedTuple):
    """A reader in the units of the ADC, and what it was made from."""

    key: tuple[Any, ...]
    reader: Reader
    reaches: float
    """Rows up to this voltage [V] stay where the tile model holds."""
    inside: bool
    """It was made for such rows."""
    linear: bool
    programmed: Programmed | None
    """What it reads; None where that is left behind, products being all that a read needs."""
    errors: AdcErrors | None
    zero: float
    """What the row sums count, where the zero of a weight is subtracted digitally."""
    noise: CellNoise | None
    """Of the cells, where it is drawn at every read."""


class AnalogLayer(nn.Module, ABC):
    """A linear map on memristor tiles.

        x --DAC--> V --tiles--> I --subtract, ADC--> shift, add over row tiles --> scale --> + bias --> y

    `weight` and `bias` stay as parameters; `program` writes the weights to the chip, the bias is added digitally.
    Change weights, then `program` again. The chip (`conductances`, in float32, or float64 if the weights are, whatever
    the network's dtype becomes), the ranges of the converters and the digital correction (`gain`, `shift`) are buffers:
    they survive state_dict, `torch.save` and deepcopy. Gradients reach the input, not the weights.

    A tile that is linear is read as one matrix product or convolution, with the exact effective conductances.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    conductances: Tensor
    """The chip as programmed: (arrays, groups, row_tiles, col_tiles, rows, cols) [S], slice by slice, the positive
    array of a pair first."""
    weight_scale: Tensor
    """The weight that the whole conductance range stands for, (groups, 1, outputs); 0 where a column has no output."""
    rows_at: Tensor
    """Row of every input in its tile, (groups, row_tiles, inputs of a tile)."""
    columns_at: Tensor
    """Place of every output in its tile, (groups, col_tiles, outputs of a tile)."""
    input_peak: Tensor
    """Largest |input| seen in calibration; 0: not calibrated."""
    inputs_signed: Tensor
    """Whether calibration saw a negative input; if not, the DAC spends all its codes on 0 … full scale."""
    current_peak: Tensor
    """Current at the last code of the ADC found in calibration [A]; 0: not calibrated."""
    gain: Tensor
    """Digital correction of every output, (groups, 1, outputs): y = gain * read + shift + bias."""
    shift: Tensor
    reference_current: Tensor
    """Current of all columns under the read voltage at all rows, when `gain` was right [A]; 0: at the programming."""
    zero_share: Tensor
    """What is left of the zero that is subtracted digitally, as the cells that it stands for lose their currents."""
    chip_seed: Tensor
    shared_scale: Tensor
    """Largest weight of the network, with scaling "network"; 0: that of this layer."""
    tally: Tensor

    _CORRECTION = ("gain", "shift", "reference_current", "zero_share")
    _FIXED: ClassVar[tuple[str, ...]] = ()
    """Attributes of torch's layer that the chip was laid out for."""
    _keeps_weights: ClassVar[bool] = True
    """Reads are of weights that were programmed before, not of those of the call."""
    _EXACT = ("conductances", "weight_scale", "input_peak", "current_peak", *_CORRECTION)
    _CHIP = ("conductances", "weight_scale", "rows_at", "columns_at", *_CORRECTION, "chip_seed")

    def __init__(self, hardware: Hardware, weight: Tensor, bias: Tensor | None, groups: int = 1, taps: int = 1) -> None:
        super().__init__()
        if torch.is_inference_mode_enabled():
            raise InputError(
                "an analog layer cannot be made in inference mode, whose tensors tell nobody of their changes",
                where=type(self).__name__,
                hint="convert outside of torch.inference_mode(), or in torch.no_grad()",
            )
        self.hardware = Hardware.checked(hardware)
        self.weight = _copied(weight)
        self.bias = None if bias is None else _copied(bias)
        self._written: WeightRecord | None = None
        self.label = ""
        """Name of the layer in its converted model, for messages."""
        self.calibrating = False
        self.moment = Moment()
        self.disturbance: Disturbance | None = None
        """Adds to what the converters get; see `network.injection`."""
        self.clipped_weights = 0
        """Of the last programming."""
        self.outcome: dict[str, int] = {}
        """What happened to cells in the last programming, by its name."""
        self.outside: dict[str, int] = {}
        self._tiles: _Tiles | None = None
        self._counted: tuple[Any, ...] | None = None  # the tiles of this key are in `outside`
        self._reading: _Reading | None = None
        self._samples: Tensor | None = None
        self._generators: dict[str, torch.Generator] = {}
        self._counts: list[int | Tensor] = [0] * 6  # what the tally has not been told yet
        if not weight.numel():
            raise InputError("a layer without weights has nothing to put on tiles", value=tuple(weight.shape))
        keep_freed_memory()
        exact: dict[str, Any] = {"dtype": torch.float64, "device": weight.device}
        self._cell_dtype = cell_dtype(weight)
        self._lay_out(self._matrix(groups), taps)
        self.register_buffer("input_peak", torch.zeros((), **exact))
        self.register_buffer("current_peak", torch.zeros((), **exact))
        self.register_buffer("inputs_signed", torch.zeros((), dtype=torch.bool, device=weight.device))
        self.register_buffer("reference_current", torch.zeros((), **exact))
        self.register_buffer("zero_share", torch.ones((), **exact))
        self.register_buffer("chip_seed", torch.zeros((), dtype=torch.int64, device=weight.device))
        self.register_buffer("shared_scale", torch.zeros((), **exact))
        self.register_buffer("tally", torch.zeros(6, dtype=torch.int64, device=weight.device), persistent=False)

    def _lay_out(self, matrix: Float[Tensor, "groups inputs outputs"], taps: int = 1, persistent: bool = True) -> None:
        """Room for a chip of this shape."""
        spec, mapping, order = self.hardware.spec, self.hardware.weight_mapping, self.hardware.row_order
        width = mapping.outputs_per_tile(spec.cols)
        groups, inputs, outputs = matrix.shape
        self.grouping = Grouping(groups)
        if self._groups_may_share and self.hardware.group_tiles == "shared":
            of_group = inputs // taps if order == "taps" else inputs
            self.grouping = Grouping.of(groups, of_group, outputs, spec.rows, width)
        blocks, shared = self.grouping.blocks, self.grouping.shared
        self.partition = Partition.of(blocks, shared * inputs, shared * outputs, spec.rows, width, taps, order)
        part = self.partition
        shape = (mapping.slices * mapping.arrays, *part.tiles, spec.rows, spec.cols)
        each = (part.groups, 1, part.outputs)
        buffers = {
            "conductances": matrix.new_zeros(shape, dtype=self._cell_dtype),
            "weight_scale": matrix.new_ones(each),
            "rows_at": part.linear_rows().to(matrix.device),
            "columns_at": part.linear_columns().to(matrix.device),
            "gain": matrix.new_ones(each),
            "shift": matrix.new_zeros(each),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=persistent)

    _groups_may_share: ClassVar[bool] = True
    """Groups are read at the same time, so that they may sit on one tile."""

    def _matrix(self, groups: int) -> Float[Tensor, "groups inputs outputs"]:
        """The weights as a matrix; of (outputs, inputs of a group, *kernel)."""
        return self.weight.detach().to(torch.float64).unflatten(0, (groups, -1)).flatten(2).mT

    @torch.no_grad()
    def program(self, seed: int = 0) -> None:
        """Writes the weights to the chip; `seed` draws the spread of its cells and the errors of its converters.

        Corrections of an earlier chip are forgotten.

        Raises:
            InputError: weights that are not finite.
        """
        hardware, part, mapping = self.hardware, self.partition, self.hardware.weight_mapping
        lowest, highest = hardware.conductance_range
        matrix = self._matrix(self.grouping.groups)
        for what, values in (("weights", matrix), ("biases", self.bias)):
            if values is not None and not bool(torch.isfinite(values).all()):
                raise InputError(f"{what} that are not finite cannot be programmed", where=self.where)
        scaled = scale_weights(matrix, self._scaling, hardware.weight_clip, self.network_scale)
        fill = lowest if hardware.unmapped_conductance is None else hardware.unmapped_conductance
        planes = lowest + (highest - lowest) * mapping.shares(scaled.weights)
        # The weight zero, which for pairs any two equal conductances are.
        between = fill
        if not mapping.signed_cells:
            between = lowest + (highest - lowest) * mapping.shares(matrix.new_zeros((1, 1, 1)))
        planes = self.grouping.block_diagonal(planes, between)
        if hardware.placement == "permuted":
            rows, columns = part.permuted(planes.sum((0, 1)))
            self.rows_at.copy_(rows)
            self.columns_at.copy_(columns)
        laid = part.to_tiles(planes, self.rows_at, self.columns_at, fill)
        written = hardware.acting.variability.programmed(
            mapping.lay(laid, hardware.spec.cols, fill),
            hardware.conductance_range,
            seed,
            hardware.cycles,
            cells=hardware.cells,
        )
        self.clipped_weights, self.outcome = scaled.clipped, written.counts
        rounded = _rounded(written.conductances, self._cell_dtype, hardware.conductance_range)
        self.conductances.copy_(self._within_devices(written.conductances, rounded, seed))
        self.weight_scale.copy_(self.grouping.side_by_side(scaled.scale, 0.0))
        self.gain.fill_(1.0)
        self.shift.zero_()
        self.reference_current.zero_()
        self.zero_share.fill_(1.0)
        self.chip_seed.fill_(seed)
        self._written = WeightRecord(self.weight) if self._keeps_weights else None
        self.read_at(Moment())

    def __setattr__(self, name: str, value: Any) -> None:
        self._check_change(name, value)
        super().__setattr__(name, value)

    def _check_change(self, name: str, value: Any) -> None:
        """An error where an attribute of a programmed layer gets a value that the chip cannot follow."""
        before = self.__dict__.get(name)
        if name in self._FIXED and before is not None and value != before:
            raise fixed(name, self.where, value, before)
        if name == "hardware" and before is not None and value is not before:
            self._check_move(Hardware.checked(value))
        held = self._parameters.get(name) if "_parameters" in self.__dict__ else None
        if held is not None and isinstance(value, Tensor) and value.shape != held.shape:
            raise InputError(
                f"the {name} of a layer on tiles keeps its shape",
                where=self.where,
                value=tuple(value.shape),
                limit=tuple(held.shape),
                hint="change the float model and convert it anew",
            )

    @property
    def where(self) -> str:
        """The layer in a message: its name in the model, where it has one, and its class."""
        return f"{self.label} ({type(self).__name__})" if self.label else type(self).__name__

    @property
    def _scaling(self) -> Scaling | Literal["group"]:
        return self.hardware.scaling

    @property
    def network_scale(self) -> float | None:
        """Largest weight of the network, with scaling "network"; None: that of this layer."""
        return float(self.shared_scale) or None

    @network_scale.setter
    def network_scale(self, scale: float | None) -> None:
        self.shared_scale.fill_(scale or 0.0)

    @property
    def own_scale(self) -> float:
        """The weight that the whole conductance range would stand for in this layer alone; 0: it has only zeros."""
        matrix = self._matrix(self.grouping.groups)
        if not bool(matrix.any()):
            return 0.0
        return float(scale_weights(matrix, "layer", self.hardware.weight_clip).scale.max())

    @property
    def weights_changed(self) -> bool:
        """Whether the weights are others than those that were programmed."""
        return self._keeps_weights and (self._written is None or self._written.changed(self.weight))

    @property
    def clipped_conductances(self) -> int:
        """Cells held at a bound of the programming error or of the device's range, of the last programming."""
        return self.outcome.get("clipped", 0)

    def read_at(self, moment: Moment) -> None:
        """Reads the chip from now on at this moment: drift and retention since the programming, and temperature.

        Noise is drawn from its beginning: reads that are repeated in the same order give the same numbers.

        Raises:
            InputError: something else than a `Moment`.
        """
        self.moment = Moment.checked(moment)
        self._generators = {}

    def at(self, time: float | str = 0.0, temperature: float | str | None = None, read: int = 0) -> Self:
        """A copy that is read at this moment: arguments and errors are those of `network.at`, for a whole model."""
        return copy.deepcopy(self).moved_to(Moment.of(time, temperature, read))

    def moved_to(self, moment: Moment) -> Self:
        """This layer, read from now on at a moment at which its tiles can be; see `at`, which leaves it as it is."""
        self.hardware.tile_model(moment.temperature)  # fails before any work is done
        self.read_at(moment)
        return self

    def present_conductances(self) -> Tensor:
        """What a read finds at this moment, as `conductances` [S]; without the noise that is drawn at every read.

        Each is within the range of the device in its cell; `held` says how many cells drift or noise would have led
        beyond it.
        """
        return self._present().conductances

    @property
    def held(self) -> int:
        """Cells that drift, motion of the state or noise would have led beyond the range of their device at this
        moment; counted as `HELD` in `counters.outside` when the chip is read."""
        return self._present().counts.get("clipped", 0)

    def _present(self) -> Outcome:
        hardware, variability = self.hardware, self.hardware.acting.variability
        if not any(isinstance(effect, ReadingEffect) for effect in variability.effects):
            found = Outcome(self.conductances, {})
        else:
            read = self.moment.read if hardware.read_noise == "frozen" else None
            found = variability.at(*self._effects_need, read=read, cells=hardware.cells)
            if hardware.least_conductance:
                found = Outcome(found.conductances.clamp_min(hardware.least_conductance), found.counts)
        warmth = self._warmth(found.conductances)
        return found if warmth is None else Outcome(found.conductances * warmth, found.counts)

    def devices(self) -> Device | None:
        """The actual device in every cell, a population of the shape of `conductances`, where their I-V curves differ
        in shape; else None: then the conductances say all."""
        population = self._population() if self.hardware.acting.spreads_shape else None
        return None if population is None else population.device

    def _population(self, seed: int | None = None) -> Population | None:
        hardware, cells = self.hardware, self.conductances
        shape, like = tuple(cells.shape), cells.new_empty((), dtype=torch.float64)
        of_chip = int(self.chip_seed) if seed is None else seed
        return hardware.acting.variability.population(hardware.cells, shape, of_chip, like)

    def _within_devices(self, exact: Tensor, rounded: Tensor, seed: int) -> Tensor:
        """`rounded`, which rounding must not lead beyond the range of the devices, where `exact` [S] is not."""
        population = self._population(seed)
        if population is None:
            return rounded.clamp_min(self.hardware.least_conductance)
        bounds = population.bounds(exact)
        return _rounded(exact, rounded.dtype, bounds, rounded)

    def _warmth(self, like: Tensor) -> Tensor | None:
        """What a spread of the activation energy of ohmic devices makes of their conductances at this temperature,
        against the nominal energy; None where it makes nothing."""
        hardware, kelvin = self.hardware, self._kelvin
        device = hardware.spec.device
        ohmic = device is not None and device.linear and hardware.rung != "ideal"
        if not (ohmic and hardware.spreads_parameters and kelvin != ROOM_TEMPERATURE):
            return None
        population = self._population()
        if device is None or population is None or "activation_energy" not in population.parameters:
            return None
        return (population.device.thermal_factor(kelvin) / device.thermal_factor(kelvin)).to(like)

    @property
    def _kelvin(self) -> float:
        """Of the cells at this moment."""
        moment = self.moment
        return self.hardware.spec.temperature if moment.temperature is None else moment.temperature

    @property
    def _effects_need(self) -> tuple[Tensor, tuple[float, float], int, float, float]:
        """What every effect of time and of reading needs to know."""
        seed, moment = int(self.chip_seed), self.moment
        return self.conductances.double(), self.hardware.conductance_range, seed, moment.time, self._kelvin

    def programmed(self) -> Programmed:
        """The chip on the rung of the hardware; derived from the conductances, so never saved or copied."""
        key = self._tiles_key
        if self._tiles is None or not _same(self._tiles.key, key):
            # Outside inference mode, or tiles first read there could never be differentiated through later.
            with torch.inference_mode(False), torch.no_grad():
                model = self.hardware.tile_model(self.moment.temperature)
                present = self._present()
                cells = present.conductances.detach().to(torch.float64, copy=True)
                devices = self.devices()
                programmed = model.program(cells) if devices is None else model.program(cells, devices)
            if self._counted is None or not _same(self._counted, key):
                self._add_outside({}, programmed)
                self._add_held(present.counts.get("clipped", 0))
                self._count_unmeasured(programmed)
                self._counted = key
            self._tiles = _Tiles(key, programmed)
        return self._tiles.programmed

    @property
    def _tiles_key(self) -> tuple[Any, ...]:
        """What programmed tiles depend on."""
        return self.hardware, self.moment, self.conductances, self.conductances._version

    @property
    def layout(self) -> Layout:
        """Where every weight of the chip is."""
        analog = self.hardware.subtraction == "analog"
        return Layout(self.partition, self.hardware.weight_mapping, self.rows_at, self.columns_at, analog)

    def chip(self) -> Chip:
        """A copy of what was programmed."""
        state = {name: getattr(self, name).clone() for name in self._CHIP}
        return Chip(state, {**self.outcome, "weights": self.clipped_weights}, self.moment, self._written)

    @torch.no_grad()
    def restore(self, chip: Chip) -> None:
        """Puts an earlier `chip` back."""
        for name, values in chip.state.items():
            getattr(self, name).copy_(values)
        self.outcome = dict(chip.outcome)
        self.clipped_weights = self.outcome.pop("weights")
        self._written = chip.written
        self.read_at(chip.moment)

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        reads, inputs, clipped, currents, saturated, added = self.tally.tolist()
        return Counters(reads, inputs, clipped, currents, saturated, added, dict(self.outside))

    @counters.setter
    def counters(self, counters: Counters) -> None:
        numbers = counters.as_dict()
        self.outside = dict(counters.outside)
        self.tally.copy_(torch.tensor([int(numbers[name]) for name in numbers if name != "outside"]))  # pyright: ignore[reportArgumentType]

    @property
    def calibrated(self) -> bool:
        """Whether every range that the converters need is known."""
        return bool(self.input_peak > 0) and not (self._needs_current_peak and bool(self.current_peak == 0))

    def move(self, hardware: Hardware) -> None:
        """Computes the same chip, with the same converter ranges, on other `hardware`.

        Raises:
            InputError: its tiles have another size, or its conductances and currents another meaning.
        """
        self.hardware = hardware

    def _check_move(self, hardware: Hardware) -> None:
        old, new = self.hardware.spec, hardware.spec
        if (old.rows, old.cols) != (new.rows, new.cols):
            raise InputError(
                "a programmed chip cannot move to tiles of another size",
                value=f"{new.rows}x{new.cols}",
                limit=f"{old.rows}x{old.cols}",
                hint="convert the model anew",
            )
        differs = Writing.of(self.hardware, self.partition).difference(Writing.of(hardware, self.partition))
        if differs is not None:
            name, own, other = differs
            raise InputError(
                f"a programmed chip cannot move to another {name.replace('_', ' ')}",
                value=other,
                limit=own,
                hint="convert the model anew",
            )
        if self.grouping.groups > 1 and hardware.group_tiles != self.hardware.group_tiles:
            raise InputError(
                "a programmed chip cannot move to hardware with another arrangement of groups",
                value=f"group_tiles={hardware.group_tiles!r}",
                limit=f"group_tiles={self.hardware.group_tiles!r}",
                hint="convert the model anew",
            )

    def reset_calibration(self) -> None:
        """Forgets the ranges of the converters; the next calibration, or else the next input, sets them."""
        self.input_peak.zero_()
        self.current_peak.zero_()
        self.inputs_signed.zero_()
        self._samples = None

    @abstractmethod
    def items(self, inputs: Tensor) -> Tensor:
        """The inputs as (items, …): vectors of a linear layer, images of a convolution.

        Raises:
            InputError: the wrong shape.
        """

    def _check_tensor(self, inputs: Any) -> None:
        if not isinstance(inputs, Tensor):
            raise InputError(
                "an analog layer takes a torch tensor", where=self.where, value=type(inputs).__name__, limit="a Tensor"
            )

    def _wrong_shape(self, inputs: Tensor, limit: str) -> InputError:
        return InputError("the input has the wrong shape", where=self.where, value=tuple(inputs.shape), limit=limit)

    def digital(self, inputs: Tensor) -> Tensor:
        """What the weights make of `inputs` without any hardware, (items, outputs, …)."""
        items, part = self.items(inputs), self.partition
        matrix = self.grouping.block_diagonal(self._matrix(self.grouping.groups), 0.0).to(items)
        per_item = max(1, self._vectors_per_item(items)) * part.groups * (part.inputs + part.outputs)
        some = items.split(max(1, READ_ELEMENTS // per_item))
        chunks = [self._vectors(self._images(chunk)) @ matrix for chunk in some]
        # Vectors of a convolution are image by image: those of later chunks come behind.
        outputs = self._assemble(torch.cat(chunks, 1).movedim(0, 1), items)
        if self.bias is None:
            return outputs
        return outputs + self.bias.to(items).reshape(-1, *[1] * (outputs.ndim - 2))

    def row_voltages(self, inputs: Tensor) -> Float[Tensor, "groups row_tiles vectors rows"]:
        """The row voltages of the first read that `inputs` become [V]: after the DAC, as every tile sees them.

        Counts nothing. The vectors of a convolution are image by image, each line by line.
        """
        items = self.items(inputs)
        drive = self.hardware.dac.drive(items, self._dac_full_scale, bool(self.inputs_signed), linear=True)
        vectors = self._vectors(self._images(drive.reads[0].slices[0][1])) * self.hardware.read_voltage
        return self.partition.to_rows(vectors, self.rows_at)

    def vectors(self, items: Tensor) -> Float[Tensor, "groups vectors inputs"]:
        """Every vector of activations that items put to the weights; their order is that of `row_voltages`."""
        return self._vectors(self._images(items))

    def reads(self, vectors: Float[Tensor, "groups vectors inputs"]) -> tuple[Read, ...]:
        """The reads that vectors of activations become, slice by slice whatever the cells.

        Drives are row voltages [V], (groups, row_tiles, vectors, rows). Counts nothing.
        """
        drive = self.hardware.dac.drive(vectors, self._dac_full_scale, bool(self.inputs_signed), linear=False)
        scale, part = self.hardware.read_voltage, self.partition
        return tuple(
            Read(
                read.weight,
                tuple((share, part.to_rows(drives * scale, self.rows_at)) for share, drives in read.slices),
            )
            for read in drive.reads
        )

    @abstractmethod
    def _images(self, drives: Tensor) -> Tensor:
        """What the kernel slides over; linear, without arithmetic."""

    @abstractmethod
    def _vectors(self, images: Tensor) -> Float[Tensor, "groups vectors inputs"]:
        """Every vector that the images put to the weights; linear, without arithmetic."""

    @abstractmethod
    def _assemble(self, results: Tensor, items: Tensor) -> Tensor:
        """Results (vectors, groups, outputs) in the shape of the layer's output."""

    @abstractmethod
    def _vectors_per_item(self, items: Tensor) -> int: ...

    def _product_reader(self, terms: Sequence[LaidTerm]) -> Reader:
        """Of tiles whose reads are matrix products."""
        return MatrixReader(self.layout, terms, self._vectors)

    @property
    def adc_step(self) -> float | None:
        """What one code of the ADC stands for [A]; None where codes are not uniform or there are none."""
        adc = self.hardware.adc
        return self._adc_full_scale / adc.unit(self._currents_signed) if adc.kind == "uniform" else None

    @property
    def _currents_signed(self) -> bool:
        paired = self.hardware.weight_mapping.planes == 2
        if paired and self.hardware.subtraction == "analog":
            return True
        return self.hardware.dac.bipolar(bool(self.inputs_signed))

    @property
    def _dac_full_scale(self) -> float:
        return self.hardware.dac.full_scale or float(self.input_peak) or 1.0  # nothing but zeros seen: any scale

    @property
    def _adc_full_scale(self) -> float:
        return self.hardware.adc.full_scale or float(self.current_peak) or 1.0

    @property
    def _needs_current_peak(self) -> bool:
        return self.hardware.adc.kind != "ideal" and self.hardware.adc.full_scale is None

    def _run(self, items: Tensor) -> Tensor:
        """The layer's output for (items, …), in chunks that bound the memory."""
        if not items.is_floating_point():
            raise InputError(
                "an analog layer takes floating point inputs",
                where=self.where,
                value=items.dtype,
                limit="float32, float64",
            )
        wide = items if items.dtype in (torch.float32, torch.float64) else items.float()
        if not len(items):
            return self._assemble(items.new_zeros((0, self.partition.groups, self.partition.outputs)), items)
        # The sum of finite numbers may overflow; looking at each of them takes longer.
        if not bool(torch.isfinite(wide.detach().sum())) and not bool(torch.isfinite(wide.detach()).all()):
            raise InputError("the input is not finite", where=self.where)
        if self._written is not None and self._written.changed(self.weight):
            warn_of_change(self.where)
            self._written = None  # once
        with torch.autocast(items.device.type, enabled=False):  # currents of microamperes do not fit half precision
            if self.calibrating or not self.calibrated:
                self._calibrate(wide)
            reading = self._current_reading(wide)
            decode, added = self._decode(reading.reader, wide), self._added(reading.reader, wide)
            chunks = list(self._chunks(wide, reading.reader))
            if len(chunks) == 1:
                results = self._read(wide, reading, decode, added)
            elif torch.is_grad_enabled():
                parts = [self._read(chunk, reading, decode, added) for chunk in chunks]
                results = torch.cat(parts, reading.reader.vector_dim)
            else:  # straight to where they belong
                vectors = [len(chunk) * self._vectors_per_item(chunk) for chunk in chunks]
                results = reading.reader.room(sum(vectors), wide)
                for chunk, place in zip(chunks, results.split(vectors, reading.reader.vector_dim), strict=True):
                    self._read(chunk, reading, decode, added, place)
            self._tell()
            results = results.movedim(reading.reader.vector_dim, 0)
        return without_gradient(self._assemble(results, items).to(items.dtype), self.weight)

    def _chunks(self, items: Tensor, reader: Reader) -> Iterator[Tensor]:
        per_item = reader.held * self._vectors_per_item(items)
        yield from items.split(max(1, READ_ELEMENTS // max(1, per_item)))

    @property
    def _conversions(self) -> int:
        return len(self.layout.place_values())

    def _current_reading(self, items: Tensor) -> _Reading:
        """The reader of the tiles as they are; it stays until something that it depends on changes."""
        largest = self.hardware.read_voltage * self._largest_drive(items)
        key = (
            *self._tiles_key,
            items.dtype,
            items.device,
            self.calibrating,
            *(each._version for each in (self.current_peak, self.input_peak, self.chip_seed, self.zero_share)),
        )
        reading = self._reading
        if reading is None or not _same(reading.key, key) or (largest <= reading.reaches) != reading.inside:
            with torch.inference_mode(False), torch.no_grad():
                self._reading = reading = self._new_reading(key, largest, items)
        return reading

    def _largest_drive(self, items: Tensor) -> float:
        """Of any row, in read voltages."""
        if not isinstance(self.hardware.dac, IdealDac) or not items.numel():
            return 1.0
        return float(items.detach().abs().max()) / self._dac_full_scale

    def _new_reading(self, key: tuple[Any, ...], largest: float, items: Tensor) -> _Reading:
        hardware, mapping, part, programmed = (
            self.hardware,
            self.hardware.weight_mapping,
            self.partition,
            self.programmed(),
        )
        lowest, highest = hardware.conductance_range
        per_ampere = self._per_ampere
        reaches = programmed.largest_voltage
        inside = largest <= reaches
        reader = self._reader(programmed, inside, per_ampere, items)
        zero = 0.0
        if mapping.planes == 1:
            zero = (lowest + (highest - lowest) * mapping.zero) * hardware.read_voltage * per_ampere
            zero *= float(self.zero_share)
        # Converters stand at the columns of a tile, or behind what subtracts two of them.
        layout, subtracted = self.layout, mapping.planes == 2 and hardware.subtraction == "analog"
        arrays = mapping.slices if subtracted else self.conductances.shape[0]
        columns = part.outputs_per_tile if subtracted else hardware.spec.cols
        errors = hardware.adc.errors((arrays, *part.tiles, columns), int(self.chip_seed))
        if errors is not None:

            def at_outputs(each: Tensor) -> Tensor:
                each = each[..., None, :].to(items)
                found = part.to_outputs(each, self.columns_at) if subtracted else layout.currents(each)
                return reader.spread(found[..., 0, :])

            errors = errors.apply(at_outputs)
        noise = self._cell_noise(programmed, reader, per_ampere, items)
        linear = inside and programmed.matrix is not None
        read = programmed if isinstance(reader, TileReader) else None
        if read is None and not self.calibrating:
            self._tiles = None  # several times as large as the products; programmed again where it is asked for
        return _Reading(key, reader, reaches, inside, linear, read, errors, zero, noise)

    @property
    def _per_ampere(self) -> float:
        """What one ampere counts in the units of the ADC."""
        return self.hardware.adc.unit(self._currents_signed) / self._adc_full_scale

    def _decode(self, reader: Reader, items: Tensor) -> Tensor:
        """What one unit of the digital sum counts in the output; broadcasts to the results."""
        hardware = self.hardware
        lowest, highest = hardware.conductance_range
        unit = hardware.read_voltage * self._per_ampere * (highest - lowest) * hardware.weight_mapping.unit
        return reader.as_result((self.weight_scale * self.gain * (self._dac_full_scale / unit)).to(items))

    def _reader(self, programmed: Programmed, inside: bool, per_ampere: float, items: Tensor) -> Reader:
        # The noise of non-linear cells is found from the voltages of their tiles.
        by_products = inside and (programmed.matrix is not None or not self._draws_cell_noise)
        products = programmed.products if by_products else None
        if products is not None:
            return self._product_reader(
                self.layout.products(products.scaled(self.hardware.read_voltage, per_ampere), items)
            )
        part = self.partition
        scale = torch.full((self._conversions, part.groups, part.row_tiles, 1), per_ampere).to(items)
        return TileReader(self.layout, programmed, self._vectors, self.hardware.read_voltage, scale)

    @property
    def _draws_cell_noise(self) -> bool:
        hardware = self.hardware
        return hardware.read_noise == "every read" and any(
            isinstance(effect, ReadNoise) for effect in hardware.acting.variability.effects
        )

    def _cell_noise(self, programmed: Programmed, reader: Reader, per_ampere: float, items: Tensor) -> CellNoise | None:
        """The read noise of the cells, where the hardware has any that is drawn at every read."""
        hardware = self.hardware
        if not self._draws_cell_noise:
            return None
        sigma = hardware.acting.variability.scatter(*self._effects_need, cells=hardware.cells)
        if (warmth := self._warmth(sigma)) is not None:
            sigma = sigma * warmth
        cells, spec = programmed.conductances, hardware.tile_model(self.moment.temperature).spec
        if isinstance(reader, TileReader):
            # What has no conductance has no current to scatter.
            spread = torch.where(cells > 0, sigma / cells, 0.0)
            largest = hardware.read_voltage
            noise = CurrentNoise(spec, cells, spread, largest, self.devices())
            return TileNoise(self.layout, reader, noise, largest, per_ampere)
        assert programmed.matrix is not None
        ideal = hardware.rung == "ideal"
        terms = OhmicNoise.without_wires(sigma) if ideal else OhmicNoise.of(spec, cells, sigma)
        unit = hardware.read_voltage * per_ampere

        def make_reader(matrix: Tensor) -> Reader:
            return self._product_reader([LaidTerm.linear(matrix)])

        return LinearNoise(self.layout, make_reader, terms, programmed.matrix, unit, items)

    def _read(
        self, items: Tensor, reading: _Reading, decode: Tensor, added: Tensor | None, out: Tensor | None = None
    ) -> Tensor:
        """Results of the items as the reader lays them, to `out` if given."""
        hardware, reader = self.hardware, reading.reader
        drive = hardware.dac.drive(items, self._dac_full_scale, bool(self.inputs_signed), reading.linear)
        results = None
        before = dict(getattr(reading.programmed, "outside", {}))
        for read in drive.reads:
            found = self._converted(read, reading, items)
            if reading.zero:
                for share, drives in read.slices:
                    found = found - (share * reading.zero) * reader.row_sums(self._images(drives))
            found = found if read.weight == 1 else found * read.weight
            results = found if results is None else results + found
        assert results is not None
        if reading.programmed is not None:
            self._add_outside(before, reading.programmed)
        self._count_drives(drive)
        self._count(0, len(items) * self._vectors_per_item(items) * len(drive.reads))
        self._count(1, items.numel())
        self._count(2, drive.saturated)
        if added is None:
            return torch.mul(results, decode, out=out)
        return torch.addcmul(added, results, decode, out=out)

    def _added(self, reader: Reader, like: Tensor) -> Tensor | None:
        """Bias and digital correction."""
        added = None if self.bias is None else self.by_output(self.bias, 0.0).to(like)
        if bool(self.shift.any()):
            shift = self.shift.to(like)
            added = shift if added is None else added + shift
        return None if added is None else reader.as_result(added)

    def _converted(self, read: Read, reading: _Reading, items: Tensor) -> Tensor:
        """The digital sum over slices of weights and row tiles, of one read."""
        reader, adc, accumulator = reading.reader, self.hardware.adc, self.hardware.accumulator
        values, signed = self.layout.place_values(), self._currents_signed
        generator = self._generator("converters", items.device) if getattr(adc, "noise", 0.0) else None
        total, kept = None, []
        images = [(share, self._images(drives)) for share, drives in read.slices]
        noise = None
        if reading.noise is not None:
            noise = reading.noise.drawn(images, self._generator("cells", items.device))
        for charges in zip(*[reader.partials(each) for _, each in images], strict=True):
            where = charges[0][1]
            charge = _charge(read, [current for current, _ in charges])
            if self.disturbance is not None:
                unit = self._per_ampere
                charge = charge + unit * self.disturbance(read, charge / unit, where, reader.tile_dim).to(charge)
            if noise is not None:
                charge = charge + next(noise)
            errors = reading.errors
            if errors is not None and where != slice(None):
                errors = errors.apply(lambda each, where=where: each[:, where])
            codes, saturated = adc.convert(charge, signed, errors, generator)
            self._count(3, self._conversions_of(codes))
            self._count(4, saturated)
            dim = reader.tile_dim
            if accumulator.bits is None:  # over the many row tiles first
                summed = codes.sum(dim) if codes.shape[dim] > 1 else codes.squeeze(dim)
                merged = _merged(summed, values, CONVERSIONS - 1)
                total = merged if total is None else total + merged
            else:
                kept.append(_merged(codes, values, CONVERSIONS))
        if total is not None:
            return total
        found, saturated = accumulator.add(torch.cat(kept, reader.tile_dim), reader.tile_dim)
        self._count(5, saturated)
        return found

    def _conversions_of(self, codes: Tensor) -> int:
        """How often converters worked for these codes: an offset column is converted once for all of its tile."""
        layout, count = self.layout, codes.numel()
        if layout.mapping.name != "offset_column" or layout.analog:
            return count
        return count // 2 + count // 2 // self.partition.outputs * self.partition.col_tiles

    def _generator(self, noise: str, device: torch.device) -> torch.Generator:
        """Draws this noise; begins anew at every moment and with every programming."""
        generator = self._generators.get(noise)
        if generator is None or generator.device != device:
            key = Randomness(int(self.chip_seed)).stream(noise, self.moment.read).key()
            generator = self._generators[noise] = torch.Generator(device).manual_seed(key >> 1)
        return generator

    def _count(self, place: int, count: int | Tensor) -> None:
        self._counts[place] = self._counts[place] + count

    def _tell(self) -> None:
        """Adds to the tally what was counted: once a run, for a number in a tensor costs more than many in Python."""
        counts = list(self._counts)
        self._counts[:] = [0] * len(counts)
        plain = [0 if isinstance(count, Tensor) else count for count in counts]
        self.tally.add_(torch.tensor(plain, device=self.tally.device))
        for place, count in enumerate(counts):
            if isinstance(count, Tensor):
                self.tally[place] += count

    def _count_unmeasured(self, programmed: Programmed) -> None:
        """Counts cells beyond the measurements of their parameter set at this moment."""
        hardware, moment = self.hardware, self.moment
        found = programmed_outside(
            hardware.spec,
            programmed.conductances,
            read_voltage=hardware.read_voltage,
            time=moment.time,
            temperature=moment.temperature,
        )
        self._add_unmeasured(found)

    def _count_drives(self, drive: Drive) -> None:
        """Counts row voltages of a read beyond the measurements of the cells' parameter set."""
        spec, scale = self.hardware.spec, self.hardware.read_voltage
        driven = [drives for read in drive.reads for _, drives in read.slices]
        self._add_unmeasured({"voltage": sum(drives_outside(spec, drives, scale) for drives in driven)})

    def _add_unmeasured(self, counts: Mapping[str, int]) -> None:
        for quantity, count in counts.items():
            if count:
                name = f"measured {quantity}"
                self.outside[name] = self.outside.get(name, 0) + count

    def _add_outside(self, before: dict[str, int], programmed: Programmed) -> None:
        counters = Counters(outside=self.outside)
        counters.add_outside(before, getattr(programmed, "outside", {}))
        self.outside = counters.outside

    def _add_held(self, count: int) -> None:
        """Counts cells held at the range of their device, where there are any."""
        if count:
            self.outside = {**self.outside, HELD: self.outside.get(HELD, 0) + count}

    @torch.no_grad()
    def _calibrate(self, items: Tensor) -> None:
        """Extends the ranges of the converters to `items`."""
        peak = items.abs().amax()
        self.input_peak.copy_(torch.maximum(self.input_peak, peak.to(self.input_peak)))
        self.inputs_signed.logical_or_((items < 0).any())
        if not self._needs_current_peak:
            return
        programmed = self.programmed()
        linear = programmed.matrix is not None
        inside = self.hardware.read_voltage * self._largest_drive(items) <= programmed.largest_voltage
        reader = self._reader(programmed, inside, 1.0, items)
        for chunk in self._chunks(items, reader):
            drive = self.hardware.dac.drive(chunk, self._dac_full_scale, bool(self.inputs_signed), linear)
            for read in drive.reads:
                for charges in zip(*[reader.partials(self._images(drives)) for _, drives in read.slices], strict=True):
                    self._extend(_charge(read, [current for current, _ in charges]))

    def _extend(self, currents: Tensor) -> None:
        adc, signed = self.hardware.adc, self._currents_signed
        if getattr(adc, "range", "max") == "max":
            peak = currents.abs().amax() if signed else currents.amax()
            self.current_peak.copy_(torch.maximum(self.current_peak, peak.to(self.current_peak)))
            return
        new = currents.flatten()
        new = new[:: max(1, math.ceil(new.numel() / CALIBRATION_SAMPLES))].double()
        kept = new if self._samples is None else torch.cat([self._samples, new])
        # Every second one, evenly: what is kept stands for all batches alike.
        kept = kept[::2] if kept.numel() > 2 * CALIBRATION_SAMPLES else kept
        self._samples = kept
        self.current_peak.fill_(full_scale_from(kept, adc, signed))

    def _apply(self, fn: Any, recurse: bool = True) -> AnalogLayer:
        # A change of the network's dtype must not touch the chip; a change of its place moves it.
        exact = {name: self._buffers[name] for name in self._EXACT}
        known = self._written is not None and not self._written.changed(self.weight)
        super()._apply(fn, recurse)
        if known:  # rounded to another dtype, or moved: the same weights
            self._written = WeightRecord(self.weight)
        for name, before in exact.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        fresh = dict.fromkeys(("_tiles", "_counted", "_reading", "_samples"))
        return {**self.__dict__, **fresh, "_generators": {}}

    def get_extra_state(self) -> Tensor:
        """How the chip was written, for `_load_from_state_dict` to compare."""
        return Writing.of(self.hardware, self.partition).as_tensor()

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing: what is loaded was written as this layer writes."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any, **named: Any) -> None:
        own = Writing.of(self.hardware, self.partition)
        # Before the first number is taken over. States of earlier versions do not say how they were written.
        written = state_dict.setdefault(f"{prefix}_extra_state", own.as_tensor())
        state_dict.setdefault(f"{prefix}zero_share", torch.ones_like(self.zero_share))
        if (differs := own.difference(Writing.from_tensor(written))) is not None:
            name, here, there = differs
            raise InputError(
                f"the chip of this state was written with another {name.replace('_', ' ')}",
                where=prefix.removesuffix(".") or type(self).__name__,
                value="none" if there is None else there,
                limit="none" if here is None else here,
                hint="Load it into a model that was converted to the hardware of the saved one",
            )
        cells = state_dict.get(f"{prefix}conductances")
        if self.grouping.groups > 1 and cells is not None and cells.shape != self.conductances.shape:
            raise InputError(
                "the chip of this state has its groups on other tiles",
                where=prefix.removesuffix(".") or type(self).__name__,
                value=tuple(cells.shape),
                limit=tuple(self.conductances.shape),
                hint='Convert with Hardware(group_tiles="separate"), the arrangement of earlier versions, or with the '
                "hardware of the saved model",
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments, **named)
        if f"{prefix}conductances" in state_dict and f"{prefix}weight" in state_dict:
            self._written = WeightRecord(self.weight)
        self._generators = {}  # another chip draws its noise from the beginning

    def by_output(self, each: Float[Tensor, " outputs"], empty: float) -> Tensor:
        """What belongs to every output of the layer, in the shape of `gain`; `empty` where a column has no output."""
        return self.grouping.side_by_side(each.reshape(self.grouping.groups, 1, -1), empty)

    @property
    def cells_used(self) -> int:
        """Cells that hold a weight, or a part of one."""
        mapping = self.hardware.weight_mapping
        return mapping.slices * (2 if mapping.signed_cells else 1) * self.weight.numel()

    @property
    def arrays(self) -> int:
        """Physical arrays."""
        return self.conductances.shape[:-2].numel()

    def extra_repr(self) -> str:
        spec = self.hardware.spec
        return (
            f"arrays={self.arrays} of {spec.rows}x{spec.cols}, rung={self.hardware.rung}, bias={self.bias is not None}"
        )


def _charge(read: Read, currents: list[Tensor]) -> Tensor:
    """The sum of share times current over the slices of one read."""
    shares = [share for share, _ in read.slices]
    if shares == [1.0]:
        return currents[0]
    charge = shares[0] * currents[0]
    for share, current in zip(shares[1:], currents[1:], strict=True):
        charge = charge + share * current
    return charge


def _merged(codes: Tensor, place_values: list[float], dim: int) -> Tensor:
    """The digital sum over conversions, which are the dimension `dim`."""
    merged = codes.select(dim, 0)
    if place_values[0] != 1:
        merged = place_values[0] * merged
    for place, value in enumerate(place_values[1:], 1):
        merged = torch.add(merged, codes.select(dim, place), alpha=value)
    return merged


def _same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """The same objects, or equal plain values; comparing tensors and configurations would take too long."""
    plain = (int, float, bool, torch.dtype, torch.device, Moment)
    return all(a is b or (isinstance(a, plain) and a == b) for a, b in zip(first, second, strict=True))


def cell_dtype(weight: Tensor) -> torch.dtype:
    """That conductances are held in: half of a chip's memory, where weights are no finer."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _rounded(
    conductances: Tensor,
    dtype: torch.dtype,
    bounds: tuple[Tensor | float, Tensor | float],
    rounded: Tensor | None = None,
) -> Tensor:
    """In `dtype`, or as `rounded`; what lies within `bounds` [S] stays there."""
    rounded = conductances.to(dtype) if rounded is None else rounded
    lowest, highest = bounds
    again = rounded.to(conductances.dtype)
    for crossed, inwards in (
        ((conductances >= lowest) & (again < lowest), math.inf),
        ((conductances <= highest) & (again > highest), -math.inf),
    ):
        rounded = torch.where(crossed, torch.nextafter(rounded, torch.full_like(rounded, inwards)), rounded)
    return rounded


def _copied(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
