"""What every TileModel must do. A new one joins by one entry in MODELS: how to build it, and what it promises."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from kirchhoff import Tile

from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.fidelity import IdealTile, NodalTile, SpiceTile, TileModel
from mdls_cosim.spice import Engine
from mdls_cosim.surrogates import fit
from mdls_cosim.surrogates.linear import LinearSurrogate
from mdls_cosim.surrogates.row_responses import RowResponses
from mdls_cosim.surrogates.series import SeriesSurrogate
from mdls_cosim.tiles import TileSpec

OHMIC, SINH = Ohmic(), Sinh(nonlinearity=3.0)


@dataclass(frozen=True)
class Member:
    build: Callable[..., TileModel]  # (spec, engine, fitted coefficients of a series)
    cell: Ohmic | Sinh = OHMIC
    linear_cell: Ohmic | Sinh = OHMIC  # as good as linear, of a kind that the model takes
    accuracy: float | None = 1e-9  # against the circuit, relative to the largest current; None: it ignores wires
    differentiable: bool = True
    knows_cell_voltages: bool = True
    power_accuracy: float | None = 1e-9  # relative; None: it knows no power
    at_rest: float = 0.0  # current without voltage [A]
    spice: bool = False


MODELS = {
    "ideal": Member(lambda spec, engine, fitted: IdealTile(spec), accuracy=None),
    "nodal ohmic": Member(lambda spec, engine, fitted: NodalTile(spec)),
    "nodal sinh": Member(lambda spec, engine, fitted: NodalTile(spec), SINH),
    "spice ohmic": Member(
        lambda spec, engine, fitted: SpiceTile(spec, engine),
        differentiable=False,
        knows_cell_voltages=False,
        power_accuracy=None,
        spice=True,
    ),
    "spice sinh": Member(
        lambda spec, engine, fitted: SpiceTile(spec, engine),
        SINH,
        accuracy=1e-7,
        differentiable=False,
        knows_cell_voltages=False,
        power_accuracy=None,
        spice=True,
    ),
    "linear surrogate": Member(lambda spec, engine, fitted: LinearSurrogate.exact(spec)),
    # The bound on a surrogate's error; wires here are as strong against the cells as in 32x32.
    "series surrogate": Member(
        lambda spec, engine, fitted: SeriesSurrogate(spec, coefficients=fitted),
        SINH,
        Sinh(nonlinearity=1e-6),
        accuracy=1e-2,
        knows_cell_voltages=False,
        power_accuracy=1e-2,
    ),
    "row responses": Member(
        lambda spec, engine, fitted: RowResponses(
            spec, coefficients={"amplitude": (0.3,), "conductances": (1e-6, 1e-4)}
        ),
        SINH,
        Sinh(nonlinearity=1e-6),
        accuracy=1e-2,
        knows_cell_voltages=False,
        power_accuracy=1e-2,
        at_rest=1e-18,  # terms of polynomials cancel there but for rounding
    ),
}


@pytest.fixture(scope="session")
def fitted(tile_spec, nodal_dataset) -> dict[str, tuple[float, ...]]:
    """Coefficients of a series, fitted on another tile than those under test."""
    surrogate = fit(nodal_dataset(tile_spec(6, 5, nonlinearity=3.0), tiles=2, vectors=4))
    assert isinstance(surrogate, SeriesSurrogate)
    return surrogate.coefficients


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.ngspice] * MODELS[name].spice) for name in MODELS])
def member(request: pytest.FixtureRequest) -> Member:
    return MODELS[request.param]


@pytest.fixture
def engine_if_needed(request: pytest.FixtureRequest, member: Member) -> Engine | None:
    return request.getfixturevalue("engine") if member.spice else None


@pytest.fixture
def build(member: Member, engine_if_needed: Engine | None, request: pytest.FixtureRequest):
    coefficients = request.getfixturevalue("fitted") if "series" in request.node.name else None
    return lambda spec: member.build(spec, engine_if_needed, coefficients)


@pytest.fixture
def spec(member: Member, tile_spec) -> TileSpec:
    """2x3, four different resistances."""
    return tile_spec(2, 3, cell=member.cell)


@pytest.fixture
def model(build, spec: TileSpec) -> TileModel:
    return build(spec)


def tensor(values: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.as_tensor(values).to(dtype)


def expected_currents(member: Member, spec: TileSpec, conductances: np.ndarray, voltages: np.ndarray) -> np.ndarray:
    if member.accuracy is None:
        return voltages @ conductances
    return Tile.of(spec).solve(conductances, voltages).currents


class TestTileModelContract:
    def test_it_says_which_tile(self, model: TileModel, spec: TileSpec, draw_tile):
        assert model.spec == spec
        conductances = tensor(draw_tile((2, 3), 1))
        programmed = model.program(conductances)
        assert programmed.spec == spec
        assert torch.equal(programmed.conductances, conductances)

    @pytest.mark.parametrize("tiles", [(), (1,), (4,), (2, 3)], ids=str)
    def test_leading_dimensions(self, member, model, spec, tiles, draw_tile, draw_voltages):
        conductances, voltages = draw_tile((*tiles, 2, 3), 2), draw_voltages((*tiles, 5, 2), 2)
        currents = model.program(tensor(conductances))(tensor(voltages))
        assert currents.shape == (*tiles, 5, 3)
        for tile in np.ndindex(*tiles):
            expected = expected_currents(member, spec, conductances[tile], voltages[tile])
            scale = (member.accuracy or 1e-12) * np.abs(expected).max()
            np.testing.assert_allclose(currents[tile], expected, rtol=0, atol=scale)

    @pytest.mark.parametrize(
        ("programmed_tiles", "input_tiles"), [((2, 3), ()), ((), (2, 3)), ((2, 1), (3,)), ((2, 1), (1, 3))], ids=str
    )
    def test_leading_dimensions_broadcast(self, model, programmed_tiles, input_tiles, draw_tile, draw_voltages):
        conductances = tensor(draw_tile((*programmed_tiles, 2, 3), 3))
        voltages = tensor(draw_voltages((*input_tiles, 4, 2), 3))
        programmed = model.program(conductances)
        currents = programmed(voltages)
        assert currents.shape == (2, 3, 4, 3)
        full = model.program(conductances.expand(2, 3, 2, 3).clone())(voltages.expand(2, 3, 4, 2).clone())
        np.testing.assert_allclose(currents, full, rtol=1e-12, atol=1e-20)

    def test_an_empty_batch(self, model, draw_tile):
        assert model.program(tensor(draw_tile((2, 3), 4)))(torch.zeros(0, 2)).shape == (0, 3)
        currents = model.program(tensor(draw_tile((4, 2, 3), 4)))(torch.zeros(4, 0, 2))
        assert currents.shape == (4, 0, 3)
        assert currents.dtype == torch.float32

    def test_no_tiles(self, model):
        assert model.program(torch.zeros(0, 2, 3))(torch.zeros(0, 5, 2)).shape == (0, 5, 3)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("programmed_dtype", [torch.float32, torch.float64], ids=str)
    def test_the_dtype_of_the_inputs_is_that_of_the_currents(
        self, model, dtype, programmed_dtype, draw_tile, draw_voltages
    ):
        programmed = model.program(tensor(draw_tile((2, 3), 5), programmed_dtype))
        voltages = draw_voltages((4, 2), 5)
        currents = programmed(tensor(voltages, dtype))
        assert currents.dtype == dtype
        exact = model.program(tensor(draw_tile((2, 3), 5)))(tensor(voltages))
        # Up to sinh(1)-like amplification of one rounding of inputs and conductances.
        np.testing.assert_allclose(currents, exact, rtol=0, atol=1e-6 * float(exact.abs().max()))

    def test_a_read_in_single_precision_leaves_no_trace(self, model, draw_tile, draw_voltages):
        programmed = model.program(tensor(draw_tile((2, 3), 5)))
        voltages = tensor(draw_voltages((4, 2), 5))
        before = programmed(voltages)
        programmed(voltages.float())
        # Far above rounding, far below single precision.
        np.testing.assert_allclose(programmed(voltages), before, rtol=0, atol=1e-12 * float(before.abs().max()))

    def test_orientation(self, member, model, spec):
        """Row 1 alone drives, and only column 2 has a cell there: current in column 2, by no other reading."""
        conductances = np.zeros((2, 3))
        conductances[1, 2] = 1e-4
        currents = model.program(tensor(conductances))(tensor(np.array([[0.0, 0.2], [0.2, 0.0]])))
        assert currents.shape == (2, 3)
        assert currents[0, 2] > 0  # a positive voltage drives a positive current into the sense node
        others = currents.clone()
        others[0, 2] = 0
        assert (others.abs() < 1e-12).all()  # ngspice's gmin of 1e-15 S is not quite nothing
        expected = expected_currents(member, spec, conductances, np.array([[0.0, 0.2]]))[0, 2]
        assert float(currents[0, 2]) == pytest.approx(expected, rel=member.accuracy or 1e-12)

    def test_zero_wires_give_ohms_law(self, member, build, spec, draw_tile, draw_voltages):
        ideal = spec.replace(
            cell=member.linear_cell,
            row_line_resistance=0.0,
            column_line_resistance=0.0,
            driver_resistance=0.0,
            sense_resistance=0.0,
        )
        conductances, voltages = draw_tile((2, 3), 6), draw_voltages((5, 2), 6)
        currents = build(ideal).program(tensor(conductances))(tensor(voltages))
        # 1e-9: what ngspice promises.
        np.testing.assert_allclose(currents, voltages @ conductances, rtol=1e-9, atol=1e-15)

    def test_no_voltage_no_current(self, member, model, draw_tile):
        currents = model.program(tensor(draw_tile((2, 3), 7)))(torch.zeros(2, 2, dtype=torch.float64))
        assert (currents.abs() <= member.at_rest).all()

    def test_open_cells_carry_no_current(self, model, draw_voltages):
        currents = model.program(torch.zeros(2, 3, dtype=torch.float64))(tensor(draw_voltages((4, 2), 8)))
        assert (currents.abs() < 1e-14).all()  # ngspice's gmin

    def test_inputs_are_left_alone(self, model, draw_tile, draw_voltages):
        conductances, voltages = tensor(draw_tile((2, 3), 9)), tensor(draw_voltages((4, 2), 9))
        kept = conductances.clone(), voltages.clone()
        model.program(conductances)(voltages)
        assert torch.equal(conductances, kept[0])
        assert torch.equal(voltages, kept[1])

    def test_cell_voltages(self, member, model, spec, draw_tile, draw_voltages):
        conductances, voltages = draw_tile((4, 2, 3), 10), draw_voltages((5, 2), 10)
        programmed = model.program(tensor(conductances))
        if not member.knows_cell_voltages:
            with pytest.raises(NotAvailable, match="NodalTile"):
                programmed.cell_voltages(tensor(voltages))
            return
        found = programmed.cell_voltages(tensor(voltages, torch.float32))
        assert found.dtype == torch.float32
        found = programmed.cell_voltages(tensor(voltages))
        assert found.shape == (4, 5, 2, 3)
        for tile in range(4):
            expected = (
                np.broadcast_to(voltages[:, :, None], (5, 2, 3))
                if member.accuracy is None
                else Tile.of(spec).solve(conductances[tile], voltages).cell_voltages
            )
            np.testing.assert_allclose(found[tile], expected, rtol=0, atol=1e-9)

    def test_power(self, member, model, spec, draw_tile, draw_voltages):
        conductances, voltages = draw_tile((4, 2, 3), 11), draw_voltages((5, 2), 11)
        programmed = model.program(tensor(conductances))
        if member.power_accuracy is None:
            with pytest.raises(NotAvailable, match="NodalTile"):
                programmed.power(tensor(voltages))
            return
        assert programmed.power(tensor(voltages, torch.float32)).dtype == torch.float32
        found = programmed.power(tensor(voltages))
        assert found.shape == (4, 5)
        for tile in range(4):
            if member.accuracy is None:
                expected = (voltages[:, :, None] ** 2 * conductances[tile]).sum((1, 2))
            else:
                solved = Tile.of(spec).solve(conductances[tile], voltages)
                expected = (solved.driver_currents * voltages).sum(1)
            np.testing.assert_allclose(found[tile], expected, rtol=member.power_accuracy)

    def test_gradients(self, member, model, draw_tile, draw_voltages):
        conductances = tensor(draw_tile((2, 3), 12, open_share=0.0)).requires_grad_()
        voltages = tensor(draw_voltages((4, 2), 12)).requires_grad_()
        currents = model.program(conductances)(voltages)
        if not member.differentiable:
            assert not currents.requires_grad
            return
        (currents * 1e5).sum().backward()
        for leaf, index, step in ((conductances, (1, 2), 1e-9), (voltages, (3, 1), 1e-5)):
            moved = []
            for sign in (1, -1):
                changed = leaf.detach().clone()
                changed[index] += sign * step
                pair = (changed, voltages.detach()) if leaf is conductances else (conductances.detach(), changed)
                moved.append(float(model.program(pair[0])(pair[1]).sum()) * 1e5)
            assert float(leaf.grad[index]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-4)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_a_read_without_gradients_does_not_take_them_from_the_next(self, member, model, dtype, draw_tile):
        if not member.differentiable:
            pytest.skip("not differentiable")
        conductances = tensor(draw_tile((2, 3), 13)).requires_grad_()
        programmed = model.program(conductances)
        voltages = torch.full((1, 2), 0.1, dtype=dtype)
        with torch.no_grad():
            programmed(voltages)
        programmed(voltages).sum().backward()
        assert conductances.grad is not None
        assert (conductances.grad > 0).any()

    def test_gradients_of_both_match_single_precision_networks(self, member, model, draw_tile):
        if not member.differentiable:
            pytest.skip("not differentiable")
        conductances = tensor(draw_tile((2, 3), 14), torch.float32).requires_grad_()
        voltages = torch.full((1, 2), 0.1, requires_grad=True)
        model.program(conductances)(voltages).sum().backward()
        assert conductances.grad.dtype == torch.float32
        assert voltages.grad.dtype == torch.float32

    @pytest.mark.parametrize(
        ("conductances", "message"),
        [
            (torch.zeros(3, 2), r"got \(3, 2\), allowed \(\*tiles, 2, 3\)"),
            (torch.zeros(3), r"got \(3,\)"),
            (torch.zeros(2, 4), r"got \(2, 4\)"),
            (torch.tensor([[1e-5, 1e-5, 1e-5], [1e-5, -0.5, 1e-5]]), r"1 conductances .*index \(1, 1\).*-0.5 S"),
            (torch.full((2, 3), torch.nan), "6 conductances .*nan"),
            (torch.full((4, 2, 3), torch.inf), "24 conductances .*inf"),
            (torch.ones(2, 3, dtype=torch.int64), "floating point.*int64"),
        ],
        ids=["transposed", "vector", "columns", "negative", "nan", "infinite", "integer"],
    )
    def test_conductances_that_cannot_be(self, model, conductances, message):
        with pytest.raises(InputError, match=message):
            model.program(conductances)

    @pytest.mark.parametrize(
        ("voltages", "message"),
        [
            (torch.zeros(2), r"got \(2,\).*voltages\[None, :\]"),
            (torch.zeros(5, 3), r"got \(5, 3\), allowed \(\*tiles, batch, 2\)"),
            (torch.zeros(3, 5, 2), r"broadcast.*got \(3,\), allowed \(4,\)"),
            (torch.tensor([[0.1, 0.1], [0.1, torch.nan]]), r"1 voltages are not finite at index \(1, 1\)"),
            (torch.full((1, 2), -torch.inf), "2 voltages are not finite"),
            (torch.ones(5, 2, dtype=torch.int32), "floating point.*int32"),
        ],
        ids=["vector", "rows", "tiles", "nan", "infinite", "integer"],
    )
    def test_voltages_that_cannot_be(self, model, voltages, message, draw_tile):
        programmed = model.program(tensor(draw_tile((4, 2, 3), 15)))
        with pytest.raises(InputError, match=message):
            programmed(voltages)
