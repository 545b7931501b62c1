"""What every analog layer is: weights on programmed tiles between DACs and ADCs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdls_cosim.analog.counters import Counters
from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.mapping import pair_conductances, scale_weights
from mdls_cosim.analog.partition import Partition
from mdls_cosim.analog.periphery import code_range
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import Programmed

READ_ELEMENTS = 2**21
"""Most voltages and currents that a layer holds at a time: inputs are read in chunks of this size."""


@dataclass(frozen=True)
class Chip:
    """What `program` wrote, to be given back with `restore`."""

    conductances: Tensor
    weight_scale: Tensor
    clipped_weights: int
    clipped_conductances: int


@dataclass(frozen=True)
class _Tiles:
    """Programmed tiles and what they were programmed from."""

    hardware: Hardware
    conductances: Tensor
    version: int
    programmed: Programmed


class AnalogLayer(nn.Module, ABC):
    """A linear map on memristor tiles.

        x --DAC--> V --two arrays--> I+, I- --subtract, ADC--> sum over row tiles --> scale --> + bias --> y

    `weight` and `bias` stay as parameters; `program` writes the weights to the chip, the bias is added digitally.
    Change weights, then `program` again. The chip (`conductances`, float64 whatever the dtype of the network) and the
    ranges of the converters are buffers: they survive state_dict, `torch.save` and deepcopy. Gradients reach the
    input, not the weights.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    conductances: Tensor
    """The chip: (2, groups, row_tiles, col_tiles, rows, cols) [S], the positive array of each pair first."""
    weight_scale: Tensor
    """The weight that the whole conductance range stands for."""
    input_peak: Tensor
    """Largest |input| seen in calibration; 0: not calibrated."""
    inputs_signed: Tensor
    """Whether calibration saw a negative input; if not, the DAC spends all its codes on 0 … full scale."""
    current_peak: Tensor
    """Largest |current| at an ADC seen in calibration [A]; 0: not calibrated."""

    _BUFFERS = ("conductances", "weight_scale", "input_peak", "current_peak")

    def __init__(self, hardware: Hardware, digital: nn.Linear | nn.Conv2d, groups: int) -> None:
        super().__init__()
        self.hardware = hardware
        self.weight = weight = _copied(digital.weight)
        self.bias = None if digital.bias is None else _copied(digital.bias)
        self.calibrating = False
        self.counters = Counters()
        self.clipped_weights = 0
        """Of the last programming."""
        self.clipped_conductances = 0
        """Of the last programming."""
        self._tiles: _Tiles | None = None
        spec = hardware.spec
        outputs = weight.shape[0] // groups
        self.partition = Partition(groups, weight.shape[1:].numel(), outputs, spec.rows, spec.cols)
        shape = (2, *self.partition.tiles, spec.rows, spec.cols)
        exact: dict[str, Any] = {"dtype": torch.float64, "device": weight.device}
        self.register_buffer("conductances", torch.zeros(shape, **exact))
        self.register_buffer("weight_scale", torch.ones((), **exact))
        self.register_buffer("input_peak", torch.zeros((), **exact))
        self.register_buffer("current_peak", torch.zeros((), **exact))
        self.register_buffer("inputs_signed", torch.zeros((), dtype=torch.bool, device=weight.device))

    @torch.no_grad()
    def program(self, seed: int | torch.Generator = 0) -> None:
        """Writes the weights to the chip; `seed` draws the programming error."""
        hardware = self.hardware
        lowest, _ = hardware.conductance_range
        weights = self.weight.detach().to(torch.float64)
        if not bool(torch.isfinite(weights).all()):
            raise InputError("weights that are not finite cannot be programmed", where=type(self).__name__)
        scaled = scale_weights(weights, hardware.weight_clip)
        matrix = scaled.weights.reshape(self.partition.groups, self.partition.outputs, -1).transpose(-1, -2)
        pair = pair_conductances(matrix, scaled.scale, hardware.conductance_range, hardware.states)
        fill = lowest if hardware.unmapped_conductance is None else hardware.unmapped_conductance
        conductances = self.partition.to_tiles(pair, fill)
        self.clipped_weights, self.clipped_conductances = scaled.clipped, 0
        if hardware.programming_error is not None:
            generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
            conductances, self.clipped_conductances = hardware.programming_error.apply(conductances, generator)
        self.conductances.copy_(conductances)
        self.weight_scale.fill_(scaled.scale)
        self._tiles = None

    def programmed(self) -> Programmed:
        """The chip on the rung of the hardware; derived from the conductances, so never saved or copied."""
        held, version = self.conductances, self.conductances._version
        tiles = self._tiles
        if (
            tiles is None
            or tiles.hardware is not self.hardware
            or tiles.conductances is not held
            or tiles.version != version
        ):
            # Outside inference mode, or tiles first read there could never be differentiated through later.
            with torch.inference_mode(False), torch.no_grad():
                programmed = self.hardware.tile_model().program(held.detach().clone())
            self.counters.add_outside({}, getattr(programmed, "outside", {}))
            tiles = self._tiles = _Tiles(self.hardware, held, version, programmed)
        return tiles.programmed

    def chip(self) -> Chip:
        """A copy of what was programmed."""
        return Chip(
            self.conductances.clone(), self.weight_scale.clone(), self.clipped_weights, self.clipped_conductances
        )

    @torch.no_grad()
    def restore(self, chip: Chip) -> None:
        """Puts an earlier `chip` back."""
        self.conductances.copy_(chip.conductances)
        self.weight_scale.copy_(chip.weight_scale)
        self.clipped_weights, self.clipped_conductances = chip.clipped_weights, chip.clipped_conductances
        self._tiles = None

    @property
    def calibrated(self) -> bool:
        """Whether every range that the converters need is known."""
        return bool(self.input_peak > 0) and not (self._needs_current_peak and bool(self.current_peak == 0))

    def move(self, hardware: Hardware) -> None:
        """Computes the same chip, with the same converter ranges, on other `hardware`.

        Raises:
            InputError: its tiles have another size.
        """
        old, new = self.hardware.spec, hardware.spec
        if (old.rows, old.cols) != (new.rows, new.cols):
            raise InputError(
                "a programmed chip cannot move to tiles of another size",
                value=f"{new.rows}x{new.cols}",
                limit=f"{old.rows}x{old.cols}",
                hint="convert the model anew",
            )
        self.hardware = hardware

    def reset_calibration(self) -> None:
        """Forgets the ranges of the converters; the next calibration, or else the next input, sets them."""
        self.input_peak.zero_()
        self.current_peak.zero_()
        self.inputs_signed.zero_()

    @abstractmethod
    def items(self, inputs: Tensor) -> Tensor:
        """The inputs as (items, …): vectors of a linear layer, images of a convolution.

        Raises:
            InputError: the wrong shape.
        """

    def row_voltages(self, inputs: Tensor) -> Float[Tensor, "groups row_tiles vectors rows"]:
        """The row voltages that `inputs` become [V]: after the DAC, as every tile sees them. Counts nothing.

        The vectors of a convolution are image by image, each line by line.
        """
        return self._voltages(self.items(inputs))[0]

    @abstractmethod
    def _vectors(self, items: Tensor) -> Float[Tensor, "groups vectors inputs"]:
        """Every vector that the items put to the weights; linear, without arithmetic."""

    @abstractmethod
    def _assemble(self, results: Float[Tensor, "groups vectors outputs"], items: Tensor) -> Tensor:
        """Results in the shape of the layer's output, bias added."""

    @abstractmethod
    def _vectors_per_item(self, items: Tensor) -> int: ...

    @property
    def adc_step(self) -> float | None:
        """What one code of the ADC stands for [A]; None for an ideal one."""
        adc = self.hardware.adc
        return None if adc.kind == "ideal" else self._adc_full_scale / code_range(adc.bits, self._currents_signed)[1]

    @property
    def _currents_signed(self) -> bool:
        return self.hardware.subtraction == "analog" or bool(self.inputs_signed)

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
            raise InputError("an analog layer takes floating point inputs", value=items.dtype, limit="float32, float64")
        wide = items if items.dtype in (torch.float32, torch.float64) else items.float()
        with torch.autocast(items.device.type, enabled=False):  # currents of microamperes do not fit half precision
            if self.calibrating or not self.calibrated:
                self._calibrate(wide)
            chunks = [self._read(chunk) for chunk in self._chunks(wide)]
        return torch.cat(chunks).to(items.dtype)

    def _chunks(self, items: Tensor) -> Iterator[Tensor]:
        part = self.partition
        groups, row_tiles, col_tiles = part.tiles
        # Voltages are repeated for both arrays and all column tiles where matrix products need them contiguous.
        per_vector = groups * row_tiles * (part.rows + 2 * col_tiles * (part.rows + part.cols))
        per_item = per_vector * self._vectors_per_item(items)
        yield from items.split(max(1, READ_ELEMENTS // max(1, per_item)))

    def _voltages(self, items: Tensor) -> tuple[Float[Tensor, "groups row_tiles vectors rows"], int]:
        full_scale = self._dac_full_scale
        activations, saturated = self.hardware.dac.convert(items, full_scale, bool(self.inputs_signed))
        return self.partition.to_rows(self._vectors(activations * (self.hardware.read_voltage / full_scale))), saturated

    def _currents(self, voltages: Tensor) -> Float[Tensor, "*pair groups row_tiles vectors outputs"]:
        """What the ADCs get [A]: of both arrays, or of their analog difference."""
        currents = self.partition.to_outputs(self.programmed()(voltages.unsqueeze(-3)))
        return currents[0] - currents[1] if self.hardware.subtraction == "analog" else currents

    def _read(self, items: Tensor) -> Tensor:
        hardware, counters = self.hardware, self.counters
        if items.shape[0] == 0:
            return self._assemble(items.new_zeros((self.partition.groups, 0, self.partition.outputs)), items)
        voltages, saturated = self._voltages(items)
        programmed = self.programmed()
        before = dict(getattr(programmed, "outside", {}))
        currents = self._currents(voltages)
        counters.add_outside(before, getattr(programmed, "outside", {}))
        counters.reads += voltages.shape[-2]
        counters.dac_conversions += items.numel()
        counters.dac_saturated += saturated

        converted, saturated = hardware.adc.convert(currents, self._adc_full_scale, self._currents_signed)
        counters.adc_conversions += converted.numel()
        counters.adc_saturated += saturated
        if hardware.subtraction == "digital":
            converted = converted[0] - converted[1]

        lowest, highest = hardware.conductance_range
        volts_per_unit = hardware.read_voltage / self._dac_full_scale
        siemens_per_unit = (highest - lowest) / float(self.weight_scale)
        return self._assemble(converted.sum(1) / (volts_per_unit * siemens_per_unit), items)

    @torch.no_grad()
    def _calibrate(self, items: Tensor) -> None:
        """Extends the ranges of the converters to `items`."""
        if items.numel() == 0:
            return
        peak = items.abs().amax()
        if not bool(torch.isfinite(peak)):
            raise InputError("converters cannot be calibrated on inputs that are not finite", where=type(self).__name__)
        self.input_peak.copy_(torch.maximum(self.input_peak, peak.to(self.input_peak)))
        self.inputs_signed.logical_or_((items < 0).any())
        if not self._needs_current_peak:
            return
        for chunk in self._chunks(items):
            voltages, _ = self._voltages(chunk)
            peak = self._currents(voltages).abs().amax()
            self.current_peak.copy_(torch.maximum(self.current_peak, peak.to(self.current_peak)))

    def _apply(self, fn: Any, recurse: bool = True) -> AnalogLayer:
        # A change of the network's dtype must not touch the chip; a change of its place moves it.
        exact = {name: self._buffers[name] for name in self._BUFFERS}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tiles": None}

    def extra_repr(self) -> str:
        part = self.partition
        groups, row_tiles, col_tiles = part.tiles
        return (
            f"arrays={2 * groups * row_tiles * col_tiles} of {part.rows}x{part.cols}, rung={self.hardware.rung}, "
            f"bias={self.bias is not None}"
        )


def _copied(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
