"""A chip is loaded only into a layer that reads its numbers as they were meant."""

import copy
import io

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, AnalogConv2d, AnalogLinear, AnalogMultiheadAttention, Hardware
from mdls_cosim.errors import InputError
from mdls_cosim.tiles import TileSpec

HARDWARE = Hardware(tile=TileSpec(rows=8, cols=8), states=4, slices=2)
OTHERS = {
    "mapping": {"mapping": "offset_column"},
    "slices": {"slices": 1},
    "states": {"states": 5},
    "lowest conductance": {"conductance_range": (2e-6, 100e-6)},
    "highest conductance": {"conductance_range": (1e-6, 50e-6)},
    "read voltage": {"read_voltage": 0.1},
}


def linear(hardware):
    return AnalogLinear(12, 6, hardware=hardware)


def saved(layer):
    """The state as it comes back from a file."""
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("field", list(OTHERS))
def test_a_chip_of_other_hardware_is_refused_by_what_differs(field):
    state = saved(linear(HARDWARE))
    other = nn.Sequential(linear(HARDWARE.replace(**OTHERS[field])))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(InputError, match=f"another {field} at 0: got .*, allowed ") as caught:
        other.load_state_dict({f"0.{name}": value for name, value in state.items()})
    assert caught.value.value != caught.value.limit
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_chip_in_another_order_of_rows_is_refused():
    # Six tiles of three rows in both orders: nothing but the order tells them apart.
    taps, dense = (
        AnalogConv2d(6, 2, (1, 3), hardware=Hardware(tile=TileSpec(rows=3, cols=4), row_order=order))
        for order in ("taps", "dense")
    )
    assert taps.conductances.shape == dense.conductances.shape
    with pytest.raises(InputError, match='another row order at AnalogConv2d: got "taps", allowed dense'):
        dense.load_state_dict(saved(taps))
    # Without a kernel all orders are one.
    rows = [AnalogLinear(12, 6, hardware=HARDWARE.replace(row_order=order)) for order in ("taps", "dense")]
    rows[1].load_state_dict(saved(rows[0]))


def test_what_a_chip_can_be_read_with_is_free():
    layer, x = linear(HARDWARE), torch.rand(5, 12)
    expected = layer(x)
    for changes in ({"rung": "nodal"}, {"placement": "permuted"}, {"subtraction": "digital"}):
        other = linear(HARDWARE.replace(**changes))
        other.load_state_dict(saved(layer))
        torch.testing.assert_close(other(x), expected)
    assert torch.equal(copy.deepcopy(layer)(x), expected)


def test_states_that_do_not_say_load_as_ever():
    layer, x = linear(HARDWARE), torch.rand(5, 12)
    expected = layer(x)
    earlier = {name: value for name, value in saved(layer).items() if name not in ("_extra_state", "zero_share")}
    fresh = linear(HARDWARE)
    fresh.load_state_dict(earlier)
    assert torch.equal(fresh(x), expected)


def test_products_of_attention_are_compared_too():
    def attention(voltage):
        hardware = HARDWARE.replace(attention="tiles", read_voltage=voltage, adc=Adc(bits=6))
        return AnalogMultiheadAttention(4, 2, hardware=hardware)

    state = {name: value for name, value in saved(attention(0.2)).items() if name.startswith("scores.")}
    attention(0.2).load_state_dict(state, strict=False)
    with pytest.raises(InputError, match="another read voltage at scores"):
        attention(0.1).load_state_dict(state, strict=False)


def test_a_chip_does_not_move_to_where_it_means_something_else():
    layer = linear(HARDWARE)
    layer.move(HARDWARE.replace(rung="ideal"))
    for field, changes in OTHERS.items():
        with pytest.raises(InputError, match=f"cannot move to another {field}"):
            layer.move(HARDWARE.replace(**changes))
