"""DACs: reads that add up to the quantised value, and slices that carry the charge of every unit slot."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mdls_cosim.analog.dac import AnyDac, BitSerialDac, Dac, IdealDac, PulseWidthDac
from mdls_cosim.errors import ConfigError

STEPPED = [Dac, PulseWidthDac, BitSerialDac]
PHASES = ["bipolar", "separate"]
kinds, phases = st.sampled_from(STEPPED), st.sampled_from(PHASES)


def total(drive):
    """What the reads of a drive add up to, by hand."""
    return sum(read.weight * sum(share * rows for share, rows in read.slices) for read in drive.reads)


def charge(drive, current):
    """Sum over reads and slices of a tile whose column current is `current(drives)`."""
    return sum(read.weight * sum(share * current(rows) for share, rows in read.slices) for read in drive.reads)


def codes_by_hand(values, full_scale, bits, signed):
    highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    rounded = np.rint(np.asarray(values) / (full_scale / highest))
    return np.clip(rounded, -highest if signed else 0, highest), rounded, highest


@settings(deadline=None)
@given(
    kind=kinds,
    phases=phases,
    values=st.lists(st.floats(-4, 4), min_size=1, max_size=20),
    full_scale=st.floats(0.1, 3),
    bits=st.integers(2, 7),
    signed=st.booleans(),
    linear=st.booleans(),
)
def test_reads_add_up_to_the_quantised_value(kind, phases, values, full_scale, bits, signed, linear):
    drive = kind(bits=bits, phases=phases).drive(
        torch.tensor(values, dtype=torch.float64), full_scale, signed, linear=linear
    )
    codes, rounded, highest = codes_by_hand(values, full_scale, bits, signed)
    summed = total(drive).numpy() * highest
    assert np.array_equal(np.rint(summed), codes)
    assert np.abs(summed - codes).max() < 1e-12 * highest  # rounding of the sums only
    assert drive.saturated == np.count_nonzero(rounded != codes)


@settings(deadline=None)
@given(kind=kinds, phases=phases, bits=st.integers(2, 8), signed=st.booleans())
def test_error_within_range_is_half_a_step(kind, phases, bits, signed):
    values = torch.linspace(-1 if signed else 0, 1, 501, dtype=torch.float64)
    drive = kind(bits=bits, phases=phases).drive(values * 3, 3.0, signed, linear=False)
    step = 1 / codes_by_hand([0], 1, bits, signed)[2]
    assert (total(drive) - values).abs().max() <= step / 2 + 1e-13  # 255 slices, each rounded by 1e-16
    assert drive.saturated == 0


@settings(deadline=None)
@given(
    kind=st.sampled_from([IdealDac, *STEPPED]),
    signed=st.booleans(),
    linear=st.booleans(),
    values=st.lists(st.floats(-2, 2), min_size=1, max_size=9),
)
def test_separate_phases_never_drive_below_zero(kind, signed, linear, values):
    dac = kind(phases="separate") if kind is IdealDac else kind(bits=5, phases="separate")
    drive = dac.drive(torch.tensor(values), 1.0, signed, linear=linear)
    assert not dac.bipolar(signed)
    assert all((rows >= 0).all() for read in drive.reads for _, rows in read.slices)


def test_both_phases_are_read_when_inputs_are_signed():
    values = torch.tensor([0.5, -1.0, 0.0])
    positive, negative = Dac(bits=3, phases="separate").drive(values, 1.0, True, linear=True).reads
    assert (positive.weight, negative.weight) == (1, -1)
    assert positive.slices[0][1].tolist() == pytest.approx([2 / 3, 0, 0])
    assert negative.slices[0][1].tolist() == [0, 1, 0]
    assert len(Dac(bits=3, phases="separate").drive(values, 1.0, False, linear=True).reads) == 1


@pytest.mark.parametrize("phases", PHASES)
@pytest.mark.parametrize("signed", [True, False])
def test_ideal_dac_has_neither_steps_nor_limits(phases, signed):
    values = torch.tensor([-1e9, -0.1, 0.0, 0.123456789, 1e9], dtype=torch.float64)
    drive = IdealDac(phases=phases).drive(values, 4.0, signed, linear=True)
    assert torch.equal(total(drive), values / 4)
    assert drive.saturated == 0


def coupled_cubic(rows):
    """A column where rows share a line: the current is no sum of what each row gives alone."""
    conductances = torch.linspace(0.3, 1.7, rows.shape[-1], dtype=rows.dtype)
    ohmic = (rows * conductances).sum(-1)
    return ohmic + 0.2 * ohmic**3 + (rows**3 * conductances).sum(-1)


@settings(deadline=None)
@given(
    codes=st.lists(st.lists(st.integers(-7, 7), min_size=4, max_size=4), min_size=1, max_size=5),
    phases=phases,
    signed=st.booleans(),
)
def test_pulses_carry_the_charge_of_every_unit_slot(codes, phases, signed):
    codes = torch.tensor(codes, dtype=torch.float64)
    codes = codes if signed else codes.abs()
    highest = 7
    drive = PulseWidthDac(bits=4 if signed else 3, phases=phases).drive(codes, 7.0, signed, linear=False)

    def slots(sides):  # the row is at +-1 for as many of the unit slots as its code says
        return sum(coupled_cubic(sides.sign() * (slot < sides.abs())) for slot in range(highest)) / highest

    expected = slots(codes)
    if phases == "separate":
        expected = slots(codes.clamp(min=0)) - slots(-codes.clamp(max=0))
    torch.testing.assert_close(charge(drive, coupled_cubic), expected, rtol=1e-12, atol=1e-12)
    assert all(((rows == 0) | (rows.abs() == 1)).all() for read in drive.reads for _, rows in read.slices)
    if phases == "bipolar":
        (read,) = drive.reads
        assert len(read.slices) == max(1, len(set(codes.abs().flatten().tolist()) - {0.0}))


def test_mean_voltage_would_give_another_charge():
    codes = torch.tensor([[1.0, 2, 3, 7]])
    pulses, mean = (PulseWidthDac(bits=4).drive(codes, 7.0, True, linear=linear) for linear in (False, True))
    torch.testing.assert_close(total(pulses), total(mean))
    assert len(mean.reads[0].slices) == 1
    assert abs(charge(pulses, coupled_cubic) / charge(mean, coupled_cubic) - 1) > 0.1


@settings(deadline=None)
@given(codes=st.lists(st.integers(0, 31), min_size=1, max_size=6), signed=st.booleans())
def test_bit_serial_reads_are_the_binary_digits(codes, signed):
    bits = 6 if signed else 5
    signs = torch.where(torch.arange(len(codes)) % 2 == 1, -1.0, 1.0) if signed else torch.ones(len(codes))
    drive = BitSerialDac(bits=bits).drive(signs * torch.tensor(codes), 31.0, signed, linear=False)
    assert len(drive.reads) == 5
    for bit, read in enumerate(drive.reads):
        assert read.weight == 2**bit / 31
        ((share, rows),) = read.slices
        assert share == 1
        digits = [int(f"{code:05b}"[4 - bit]) for code in codes]
        assert rows.tolist() == [sign * digit for sign, digit in zip(signs.tolist(), digits, strict=True)]


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("phases", PHASES)
@pytest.mark.parametrize("dac", [IdealDac(), *(kind(bits=4) for kind in STEPPED)], ids=lambda dac: dac.kind)
def test_gradient_is_straight_through_within_range_and_zero_beyond(dac, phases, linear):
    values = torch.tensor([-2.0, -0.3, -0.01, 0.0, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    drive = dac.replace(phases=phases).drive(values, 1.5, True, linear=linear)
    total(drive).sum().backward()
    beyond = 1 if dac.kind == "ideal" else 0
    assert values.grad is not None
    torch.testing.assert_close(values.grad * 1.5, torch.tensor([beyond, 1, 1, 1, 1, beyond], dtype=torch.float64))
    with torch.no_grad():
        plain = dac.replace(phases=phases).drive(values, 1.5, True, linear=linear)
    for read, same in zip(drive.reads, plain.reads, strict=True):
        assert read.weight == same.weight
        assert all(torch.equal(a[1], b[1]) for a, b in zip(read.slices, same.slices, strict=True))


@pytest.mark.parametrize("phases", PHASES)
@pytest.mark.parametrize("kind", STEPPED)
def test_gradient_of_zeros_alone_is_one(kind, phases):
    values = torch.zeros(3, requires_grad=True)
    total(kind(bits=4, phases=phases).drive(values, 1.0, True, linear=False)).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("kind", STEPPED)
def test_inputs_are_left_alone_and_shapes_kept(kind):
    for shape in [(2, 3, 4), (0, 5), ()]:
        values = torch.full(shape, 0.4)
        drive = kind(bits=3).drive(values, 1.0, False, linear=False)
        assert torch.equal(values, torch.full(shape, 0.4))
        assert all(rows.shape == shape for read in drive.reads for _, rows in read.slices)


def test_one_signed_bit_is_refused_with_the_reason():
    for kind in STEPPED:
        with pytest.raises(ConfigError, match=r"either side of zero.*2 bits or more"):
            kind(bits=1).drive(torch.ones(1), 1.0, True, linear=True)
        assert total(kind(bits=1).drive(torch.tensor([0.2, 0.8]), 1.0, False, linear=True)).tolist() == [0, 1]


@pytest.mark.parametrize(
    "wrong",
    [{"bits": 0}, {"bits": 33}, {"bits": 2.5}, {"bits": 4, "full_scale": 0.0}, {}, {"bits": 4, "phases": "both"}],
)
@pytest.mark.parametrize("kind", STEPPED)
def test_impossible_converters_are_refused(kind, wrong):
    field = next((name for name in ("full_scale", "phases") if name in wrong), "bits")
    with pytest.raises(ConfigError, match=field):
        kind(**wrong)


@pytest.mark.parametrize("dac", [IdealDac(phases="separate"), *(kind(bits=6, full_scale=2.0) for kind in STEPPED)])
def test_kind_leads_back_to_the_same_dac(dac):
    assert TypeAdapter(AnyDac).validate_python(dac.as_dict()) == dac
