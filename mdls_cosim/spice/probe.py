"""Which matrix solver the ngspice library really uses: `python -m mdls_cosim.spice.probe [--solver] [--json]`.

A worker solves a small circuit *through the library*, asking for KLU. Prints what answered and exits with 0, or the
cause and exits with 1. `--solver` prints one word, klu or sparse, for a set-up script; nothing if there is no answer.
"""

import json
import sys
from dataclasses import asdict

import numpy as np

from mdls_cosim.errors import MdlsError, SpiceError
from mdls_cosim.spice.deck import Deck
from mdls_cosim.spice.engine import EngineInfo
from mdls_cosim.spice.ngspice import NgspiceEngine

__all__ = ["known_circuit", "probe"]


def known_circuit() -> tuple[Deck, np.ndarray, float]:
    """A divider, one value of its source, and the current [A] that an engine must return for it."""
    deck = Deck(
        title="divider",
        elements=("Vin in 0 0", "Rtop in middle 1000", "Rbottom middle sense 3000", "Vsense sense 0 0"),
        sources=("Vin",),
        probes=("i(vsense)", "v(middle)"),
        balance=("vin", "vsense"),
    )
    return deck, np.array([[2.0]]), 2.0 / 4000.0


def probe(library: str | None = None) -> EngineInfo:
    """Start an engine, solve the known circuit, tell what answered. Raises a SpiceError for anything else."""
    deck, values, current = known_circuit()
    with NgspiceEngine(library) as engine:
        found = engine.run(deck, values).column("i(vsense)")[0]
        if abs(found - current) > 1e-9 * current:
            raise SpiceError("ngspice solves a divider wrongly", value=f"{found} A", limit=f"{current} A")
        return engine.info()


def main(arguments: list[str]) -> int:
    unknown = [argument for argument in arguments if argument not in ("--solver", "--json")]
    if unknown:
        sys.stderr.write(f"unknown argument {unknown[0]}; allowed: --solver, --json\n")
        return 2
    try:
        info = probe()
    except MdlsError as error:
        if "--json" in arguments:
            sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        elif "--solver" not in arguments:
            sys.stdout.write(f"{error}\n")
        return 1
    if "--json" in arguments:
        text = json.dumps(asdict(info))
    elif "--solver" in arguments:
        text = info.solver
    else:
        text = f"ngspice {info.version}, solver {info.solver}, {info.library}, PySpice {info.pyspice}"
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
