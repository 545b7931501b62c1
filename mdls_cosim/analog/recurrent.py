"""Recurrent layers on tiles: whole sequences, and cells that make one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from mdls_cosim.analog.composite import Composite, matrix
from mdls_cosim.analog.layer import AnalogLayer
from mdls_cosim.errors import InputError

State = tuple[Tensor, ...]
"""(hidden state,), or (hidden state, cell state) of an LSTM."""


class _Recurrent(Composite):
    """What sequences and cells have in common: the gates, which are digital."""

    states: ClassVar[tuple[str, ...]] = ("hidden",)
    hidden_size: int

    def _parameter(self, name: str) -> tuple[nn.Module, str] | None:
        # weight_ih_l0: the weight of ih_l0.
        part, _, of = name.partition("_")
        layer = self._modules.get(of) if part in ("weight", "bias") else None
        return None if layer is None else (layer, part)

    def _update(self, inputs: Tensor, hidden: Tensor, state: State) -> State:
        """The next state, of W_ih x + b_ih and W_hh h + b_hh."""
        raise NotImplementedError

    def _state(self, given: Any, shape: tuple[int, ...], like: Tensor) -> State:
        """The initial state: zeros, or what was given in the right shape; the last of `shape` counts the features."""
        sizes = [shape[-1], self.hidden_size][: len(self.states)]
        if given is None:
            return tuple(like.new_zeros((*shape[:-1], size)) for size in sizes)
        state = given if len(self.states) > 1 else (given,)
        if not isinstance(state, tuple | list) or len(state) != len(self.states):
            raise InputError(
                f"the initial state is ({', '.join(self.states)})", where=self.where, value=type(given).__name__
            )
        for name, each, size in zip(self.states, state, sizes, strict=True):
            self._check_tensor(each)
            if tuple(each.shape) != (*shape[:-1], size):
                raise InputError(
                    f"the initial {name} state has the wrong shape",
                    where=self.where,
                    value=tuple(each.shape),
                    limit=str((*shape[:-1], size)),
                )
        return tuple(state)

    def _wrong(self, inputs: Tensor, limit: str) -> InputError:
        return InputError("the input has the wrong shape", where=self.where, value=tuple(inputs.shape), limit=limit)


class _Simple(_Recurrent):
    nonlinearity: str

    def _update(self, inputs: Tensor, hidden: Tensor, state: State) -> State:
        total = inputs + hidden
        return (torch.tanh(total) if self.nonlinearity == "tanh" else torch.relu(total),)


class _Lstm(_Recurrent):
    states = ("hidden", "cell")

    def _update(self, inputs: Tensor, hidden: Tensor, state: State) -> State:
        entry, forget, candidate, exit_ = (inputs + hidden).chunk(4, -1)
        cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(entry) * torch.tanh(candidate)
        return torch.sigmoid(exit_) * torch.tanh(cell), cell


class _Gru(_Recurrent):
    def _update(self, inputs: Tensor, hidden: Tensor, state: State) -> State:
        (reset, update, candidate), (of_reset, of_update, of_candidate) = inputs.chunk(3, -1), hidden.chunk(3, -1)
        kept = torch.sigmoid(update + of_update)
        new = torch.tanh(candidate + torch.sigmoid(reset + of_reset) * of_candidate)
        return ((1 - kept) * new + kept * state[0],)


class _Sequence(_Recurrent):
    """Weights as `ih_l0`, `hh_l0`, `ih_l0_reverse`, …: torch's names of them, without "weight_"."""

    _FIXED = ("input_size", "hidden_size", "num_layers", "bidirectional", "proj_size", "mode")

    def _take(self, digital: Any) -> None:
        self.input_size: int = digital.input_size
        self.hidden_size: int = digital.hidden_size
        self.num_layers: int = digital.num_layers
        self.bias: bool = digital.bias
        self.batch_first: bool = digital.batch_first
        self.dropout: float = digital.dropout
        self.bidirectional: bool = digital.bidirectional
        self.proj_size: int = digital.proj_size
        self.mode: str = digital.mode
        for suffix in self._suffixes():
            for name in ("ih", "hh", "hr") if self.proj_size else ("ih", "hh"):
                weight, bias = f"weight_{name}{suffix}", f"bias_{name}{suffix}"
                self.add_module(name + suffix, matrix(getattr(digital, weight), getattr(digital, bias, None)))

    def flatten_parameters(self) -> None:
        """Nothing: there is no kernel that wants its weights in one piece. Models call it on torch's layers."""

    def _suffixes(self) -> list[str]:
        """Of the names of weights, in the order of the states."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{layer}{direction}" for layer in range(self.num_layers) for direction in directions]

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """As torch's: (outputs, last state), a PackedSequence for a PackedSequence."""
        packed = input if isinstance(input, PackedSequence) else None
        data, sizes, batched = self._steps(input)
        if not batched and hx is not None:
            hx = tuple(each[:, None] for each in hx) if len(self.states) > 1 else hx[:, None]
        suffixes = self._suffixes()
        state = self._state(hx, (len(suffixes), sizes[0], self.proj_size or self.hidden_size), data)
        if packed is not None and packed.sorted_indices is not None:
            state = tuple(each.index_select(1, packed.sorted_indices) for each in state)
        finals: list[State] = []
        with self._ranges_of_a_sequence():
            for layer in range(self.num_layers):
                if layer and self.dropout:
                    data = dropout(data, self.dropout, self.training)
                found = []
                for suffix in (each for each in suffixes if each.split("_")[1] == f"l{layer}"):
                    first = tuple(each[len(finals)] for each in state)
                    outputs, final = self._run(suffix, data, sizes, first)
                    found.append(outputs)
                    finals.append(final)
                data = torch.cat(found, -1)
        last = tuple(torch.stack(each) for each in zip(*finals, strict=True))
        if packed is not None:
            if packed.unsorted_indices is not None:
                last = tuple(each.index_select(1, packed.unsorted_indices) for each in last)
            outputs = PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        else:
            steps = data.unflatten(0, (len(sizes), sizes[0]))
            outputs = (steps.transpose(0, 1) if self.batch_first else steps) if batched else steps[:, 0]
            last = last if batched else tuple(each[:, 0] for each in last)
        return outputs, last if len(self.states) > 1 else last[0]

    def _steps(self, inputs: Tensor | PackedSequence) -> tuple[Tensor, list[int], bool]:
        """(all steps, one after the other; sequences that are in each step; whether there is a batch)."""
        if isinstance(inputs, PackedSequence):
            if inputs.data.ndim != 2 or inputs.data.shape[-1] != self.input_size:
                raise self._wrong(inputs.data, f"packed (steps, {self.input_size})")
            return inputs.data, inputs.batch_sizes.tolist(), True
        self._check_tensor(inputs)
        if inputs.ndim not in (2, 3) or inputs.shape[-1] != self.input_size or not inputs.numel():
            order = "batch, steps" if self.batch_first else "steps, batch"
            raise self._wrong(inputs, f"({order}, {self.input_size}) or (steps, {self.input_size}), and not empty")
        batched = inputs.ndim == 3
        steps = (inputs.transpose(0, 1) if self.batch_first else inputs) if batched else inputs[:, None]
        return steps.flatten(0, 1), [steps.shape[1]] * len(steps), batched

    def _run(self, suffix: str, data: Tensor, sizes: list[int], state: State) -> tuple[Tensor, State]:
        """One layer in one direction."""
        of_inputs: Any = self.get_submodule("ih" + suffix)
        of_hidden: Any = self.get_submodule("hh" + suffix)
        project: Any = self.get_submodule("hr" + suffix) if self.proj_size else None
        read = of_inputs(data).split(sizes)
        outputs = [data] * len(sizes)
        order = range(len(sizes))
        for step in reversed(order) if suffix.endswith("_reverse") else order:
            size = sizes[step]
            now = tuple(each[:size] for each in state)
            new = self._update(read[step], of_hidden(now[0]), now)
            if project is not None:
                new = (project(new[0]), *new[1:])
            outputs[step] = new[0]
            # Sequences that are not in this step have ended, or, in reverse, not begun.
            state = tuple(torch.cat([after, each[size:]]) for after, each in zip(new, state, strict=True))
        return torch.cat(outputs), state

    @contextmanager
    def _ranges_of_a_sequence(self) -> Iterator[None]:
        """Converters without ranges take them from a whole sequence: the first hidden states are zeros."""
        fresh = [
            part
            for part in self.modules()
            if isinstance(part, AnalogLayer) and not part.calibrated and not part.calibrating
        ]
        for part in fresh:
            part.calibrating = True
        try:
            yield
        finally:
            for part in fresh:
                part.calibrating = False

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bias={self.bias}, "
            f"batch_first={self.batch_first}, dropout={self.dropout}, bidirectional={self.bidirectional}"
        )


class _Cell(_Recurrent):
    """Weights as `ih` and `hh`."""

    _FIXED = ("input_size", "hidden_size")

    def _take(self, digital: Any) -> None:
        self.input_size: int = digital.input_size
        self.hidden_size: int = digital.hidden_size
        self.bias: bool = digital.bias
        self.ih = matrix(digital.weight_ih, digital.bias_ih)
        self.hh = matrix(digital.weight_hh, digital.bias_hh)

    def forward(self, input: Float[Tensor, "*batch inputs"], hx: Any = None) -> Any:
        """The next state, as torch's."""
        self._check_tensor(input)
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise self._wrong(input, f"(batch, {self.input_size}) or ({self.input_size},)")
        state = self._state(hx, (*input.shape[:-1], self.hidden_size), input)
        new = self._update(self.ih(input), self.hh(state[0]), state)
        return new if len(self.states) > 1 else new[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}"


class AnalogRNN(_Simple, _Sequence):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), or relu, over sequences; the arguments of `torch.nn.RNN`.

    W_ih and W_hh of every layer and direction are on tiles (`ih_l0`, `hh_l0`, `ih_l0_reverse`, …: torch's names without
    "weight_"): all steps of the input in one read, the hidden state step by step. Digital: biases, tanh or relu,
    dropout between the layers, and the state from step to step, which is held without error.

    Args:
        hardware: tiles, mapping and periphery; None: the matrices stay digital.
        seed: draws the spread of the cells.
        digital: the layer whose weights to take; None: fresh ones, drawn as torch draws them.

    Raises:
        InputError: an input or a state of the wrong shape.
    """

    digital_kind = nn.RNN

    def _take(self, digital: Any) -> None:
        super()._take(digital)
        self.nonlinearity = digital.mode.removeprefix("RNN_").lower()  # which is what torch's layer computes by


class AnalogLSTM(_Lstm, _Sequence):
    """A long short-term memory over sequences; the arguments of `torch.nn.LSTM`.

        i, f, g, o = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh
        c_t = sigmoid(f) c_(t-1) + sigmoid(i) tanh(g)
        h_t = W_hr (sigmoid(o) tanh(c_t)),  W_hr only with proj_size

    As `AnalogRNN`: the matrices are on tiles, one for all four gates, and so is W_hr (`hr_l0`, …); the gates, the
    products with the cell state and the cell state itself are digital.
    """

    digital_kind = nn.LSTM


class AnalogGRU(_Gru, _Sequence):
    """Gated recurrent units over sequences; the arguments of `torch.nn.GRU`.

        r, z = sigmoid of W_ih x_t + b_ih + W_hh h_(t-1) + b_hh
        n = tanh(W_in x_t + b_in + r (W_hn h_(t-1) + b_hn))
        h_t = (1 - z) n + z h_(t-1)

    As `AnalogRNN`: the matrices are on tiles, one for all three gates; the gates and their products are digital.
    """

    digital_kind = nn.GRU


class AnalogRNNCell(_Simple, _Cell):
    """One step of `AnalogRNN`; the arguments of `torch.nn.RNNCell`. On tiles: `ih` and `hh`.

    Calibrate it on data: without, the ADCs of `hh` take their range from the first state that is not zero.
    """

    digital_kind = nn.RNNCell

    def _take(self, digital: Any) -> None:
        super()._take(digital)
        self.nonlinearity = digital.nonlinearity


class AnalogLSTMCell(_Lstm, _Cell):
    """One step of `AnalogLSTM`; the arguments of `torch.nn.LSTMCell`. Otherwise as `AnalogRNNCell`."""

    digital_kind = nn.LSTMCell


class AnalogGRUCell(_Gru, _Cell):
    """One step of `AnalogGRU`; the arguments of `torch.nn.GRUCell`. Otherwise as `AnalogRNNCell`."""

    digital_kind = nn.GRUCell
