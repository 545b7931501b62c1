"""Fits a surrogate to exact solutions of Kirchhoff's laws instead of to ngspice: the tile itself is known."""

from __future__ import annotations

import numpy as np
import torch

from mdls_cosim.characterize import Characterization, draw
from mdls_cosim.dataset import Array, Dataset
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.surrogates.domain import Domain
from mdls_cosim.surrogates.fit import held_out_error, reached_voltage
from mdls_cosim.surrogates.parameters import Reads
from mdls_cosim.surrogates.read_classes import class_names
from mdls_cosim.surrogates.series import SeriesSurrogate
from mdls_cosim.surrogates.series_fit import fit_coefficients

_RESIDUAL = 1e-8  # of Kirchhoff's law in the labels


def fit_to_exact(plan: Characterization) -> SeriesSurrogate:
    """A surrogate fitted to NodalTile's currents; the electrical parameters are those of the tile itself.

    Of each class of conductances the last tile is held out of the fit and gives the stated error.

    Args:
        plan: the tile, the range of its conductances, and its reads: two tiles or more of each class.

    Raises:
        InputError: a plan that reads nothing, or of a single tile a class.
    """
    reads, spec = plan.read, plan.tile
    if reads is None or reads.tiles < 2:
        raise InputError(
            "a fit holds one tile of each class out",
            where="read",
            value="no reads" if reads is None else f"tiles = {reads.tiles}",
            limit="two tiles or more",
        )
    cases = draw(spec, reads, plan.conductance_range, np.random.default_rng(plan.seed))
    conductances, voltages = torch.as_tensor(cases.conductances), torch.as_tensor(cases.voltages)
    currents = NodalTile(spec, _RESIDUAL).program(conductances)(voltages)
    held = torch.arange(len(conductances)) % reads.tiles == reads.tiles - 1
    names = class_names(
        [reads.conductance_classes[code] for code in cases.conductance_class],
        [reads.input_classes[code] for code in cases.input_class],
    )
    kept = ~held
    codes = np.unique(names[kept.numpy()], return_inverse=True)[1].reshape(int(kept.sum()), -1)
    coefficients = fit_coefficients(
        spec, Reads(conductances[kept], voltages[kept], currents[kept]), torch.as_tensor(codes)
    )
    model = SeriesSurrogate(spec, coefficients=coefficients)
    labels = Dataset.create(
        {"read": {"currents": Array(currents.numpy(), "A", ("tile", "vector", "col"))}}, plan.as_dict(), plan.seed
    )
    return SeriesSurrogate(
        spec,
        reference_spec=spec,
        domain=Domain(
            rows=spec.rows,
            cols=spec.cols,
            conductances=plan.conductance_range,
            input_voltage=reads.voltage,
            cell_voltage=reached_voltage(model, conductances, voltages, currents, reads.voltage),
            temperature=spec.temperature,
        ),
        error=held_out_error(model, conductances[held], voltages[held], currents[held], names[held.numpy()]),
        coefficients=coefficients,
        parents=(labels.content_hash,),
        seed=plan.seed,
    )
