"""mdls_cosim: memristor co-simulation from the device to the deep network.

The main functions and classes are attributes of this package, imported at their first use (PEP 562):

    import mdls_cosim as mc
    analog, report = mc.convert(model, mc.Hardware(tile=mc.load("surrogate.h5")))

`import mdls_cosim` itself loads neither torch nor PySpice. The subpackages (`mc.devices`, `mc.characterize`, ...) are
available in the same way.
"""

import difflib
import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdls_cosim import analog as analog
    from mdls_cosim import calibrate as calibrate
    from mdls_cosim import characterize as characterize
    from mdls_cosim import devices as devices
    from mdls_cosim import fidelity as fidelity
    from mdls_cosim import network as network
    from mdls_cosim import report as report
    from mdls_cosim import spice as spice
    from mdls_cosim import surrogates as surrogates
    from mdls_cosim import tiles as tiles
    from mdls_cosim.analog import (
        Accumulator,
        Adc,
        AnalogMatrix,
        BitSerialDac,
        Dac,
        Hardware,
        IdealAdc,
        IdealDac,
        LogarithmicAdc,
        PulseWidthDac,
    )
    from mdls_cosim.dataset import Dataset
    from mdls_cosim.devices import (
        DataDriven,
        ExponentialSelector,
        JartVcm,
        LinearIonDrift,
        MetastableSwitch,
        Nmos,
        Ohmic,
        PassiveTio2,
        PhaseChange,
        PolynomialRead,
        Sinh,
        StanfordPku,
        ThresholdSelector,
        Vteam,
        Yakopcic,
    )
    from mdls_cosim.errors import MdlsError
    from mdls_cosim.fidelity import IdealTile, NodalTile, SpiceTile
    from mdls_cosim.network import (
        analog_layers,
        at,
        audit,
        check,
        compensate_drift,
        convert,
        evaluate,
        load_weights,
        on_rung,
        program,
        reestimate_batch_norm,
        register_converter,
        save_weights,
        to_torch,
        train,
    )
    from mdls_cosim.surrogates import Surrogate, fit, fit_pulses, fit_to_exact, load, validate
    from mdls_cosim.tiles import SelectorCell, SubcircuitCell, TileSpec, TransistorCell

__version__ = version("mdls_cosim")

_SUBPACKAGES = (
    "analog", "calibrate", "characterize", "devices", "fidelity", "network", "report", "spice", "surrogates", "tiles"
)  # fmt: skip
_EXPORTS = {
    "analog": (
        "Accumulator", "Adc", "AnalogMatrix", "BitSerialDac", "Dac", "Hardware", "IdealAdc", "IdealDac",
        "LogarithmicAdc", "PulseWidthDac",
    ),
    "dataset": ("Dataset",),
    "devices": (
        "DataDriven", "ExponentialSelector", "JartVcm", "LinearIonDrift", "MetastableSwitch", "Nmos", "Ohmic",
        "PassiveTio2", "PhaseChange", "PolynomialRead", "Sinh", "StanfordPku", "ThresholdSelector", "Vteam", "Yakopcic",
    ),
    "errors": ("MdlsError",),
    "fidelity": ("IdealTile", "NodalTile", "SpiceTile"),
    "network": (
        "analog_layers", "at", "audit", "check", "compensate_drift", "convert", "evaluate", "load_weights", "on_rung",
        "program", "reestimate_batch_norm", "register_converter", "save_weights", "to_torch", "train",
    ),
    "surrogates": ("Surrogate", "fit", "fit_pulses", "fit_to_exact", "load", "validate"),
    "tiles": ("SelectorCell", "SubcircuitCell", "TileSpec", "TransistorCell"),
}  # fmt: skip
"""Module (below this package) to the names that it exports here; the block above repeats them for type checkers."""
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [  # noqa: RUF022
    # analog
    "Accumulator", "Adc", "AnalogMatrix", "BitSerialDac", "Dac", "Hardware", "IdealAdc", "IdealDac", "LogarithmicAdc",
    "PulseWidthDac",
    # dataset
    "Dataset",
    # devices
    "DataDriven", "ExponentialSelector", "JartVcm", "LinearIonDrift", "MetastableSwitch", "Nmos", "Ohmic",
    "PassiveTio2", "PhaseChange", "PolynomialRead", "Sinh", "StanfordPku", "ThresholdSelector", "Vteam", "Yakopcic",
    # errors
    "MdlsError",
    # fidelity
    "IdealTile", "NodalTile", "SpiceTile",
    # network
    "analog_layers", "at", "audit", "check", "compensate_drift", "convert", "evaluate", "load_weights", "on_rung",
    "program", "reestimate_batch_norm", "register_converter", "save_weights", "to_torch", "train",
    # surrogates
    "Surrogate", "fit", "fit_pulses", "fit_to_exact", "load", "validate",
    # tiles
    "SelectorCell", "SubcircuitCell", "TileSpec", "TransistorCell",
]  # fmt: skip


if not TYPE_CHECKING:  # type checkers report unknown names

    def __getattr__(name: str) -> Any:
        """Import the exported name or subpackage `name` at its first use.

        Raises:
            AttributeError: this package exports no such name.
        """
        if name in _SUBPACKAGES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULE_OF:
            close = difflib.get_close_matches(name, (*_MODULE_OF, *_SUBPACKAGES), n=1)
            hint = f". Did you mean {close[0]!r}?" if close else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name)
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
