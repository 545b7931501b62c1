"""The fits of a ranking that are done, in a file of their own, so that an interrupted ranking can be continued."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mdls_cosim.calibrate.agreement import Branch
from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.whole_file import write_whole
from mdls_cosim.devices import AnyDevice
from mdls_cosim.devices.variability import AnyEffect
from mdls_cosim.errors import MdlsError, StoreError
from mdls_cosim.provenance import tool_versions
from mdls_cosim.text_files import MEGABYTE, read_text_file

_FORMAT = "mdls-cosim ranking 1"
_LARGEST = 200 * MEGABYTE


@dataclass
class RankingFile:
    """Fits by model, written after every one.

    The key is a hash of the loops, of what is held out, of the settings and of the versions of the tools: fits are
    only continued on the same.
    """

    path: str
    key: str
    fits: dict[str, LoopFit] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | os.PathLike[str], key: str, *, resume: bool) -> Self:
        """The file at `path`, empty unless `resume` and it exists.

        Raises:
            StoreError: it is not such a file, or is of other data or settings.
        """
        where = os.fspath(path)
        if not resume or not os.path.exists(where):
            return cls(where, key)
        text = read_text_file(where, "the ranking", largest=_LARGEST).text
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise KeyError("format")
            if content["key"] == key:
                return cls(where, key, {name: _fit(table) for name, table in content["fits"].items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError, MdlsError) as error:
            raise StoreError(
                "not a ranking that can be continued", where=where, value=" ".join(str(error).split())[:60],
                hint="Without --resume it is begun anew",
            ) from None  # fmt: skip
        raise StoreError(
            "the ranking is of other data, settings or versions", where=where,
            hint="Give those of the first run, or begin anew without --resume",
        )  # fmt: skip

    def add(self, model: str, fit: LoopFit) -> None:
        """Keep the fit of a model, and write the file.

        Raises:
            StoreError: it cannot be written.
        """
        self.fits[model] = fit
        content = {
            "format": _FORMAT,
            "key": self.key,
            "ranking": [
                {
                    "model": name, "error": each.error, "branches": each.branch_error, "held_out": each.held_out_error,
                    "held_out_branches": each.held_out_branch_error,
                }
                for name, each in self.fits.items()
            ],
            "fits": {name: _table(each) for name, each in self.fits.items()},
        }  # fmt: skip
        write_whole(self.path, json.dumps(content))


def kept_models(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The models whose fits a ranking's file holds; none where it cannot be read."""
    try:
        content = json.loads(read_text_file(path, "the ranking", largest=_LARGEST).text)
        return tuple(str(each["model"]) for each in content["ranking"])
    except (ValueError, KeyError, TypeError, RecursionError, MdlsError):
        return ()


def ranking_key(loops: Sequence[Loop], held_out: Sequence[Loop], settings: Mapping[str, Any]) -> str:
    """The hash of all that the fits of a ranking depend on."""
    digest = hashlib.sha256()
    for loop in (*loops, *held_out):
        for name in (each.name for each in fields(Loop)):
            value = getattr(loop, name)
            if isinstance(value, np.ndarray):
                digest.update(name.encode() + str(value.shape).encode() + np.ascontiguousarray(value).tobytes())
            else:
                digest.update(f"{name}={value!r};".encode())
    counts = {"loops": len(loops), "held_out": len(held_out), "tools": tool_versions()}
    digest.update(json.dumps({**settings, **counts}, sort_keys=True).encode())
    return f"sha256:{digest.hexdigest()}"


def _table(fit: LoopFit) -> dict[str, Any]:
    table = {each.name: getattr(fit, each.name) for each in fields(LoopFit)}
    return {
        **table,
        "device": fit.device.as_dict(),
        **{
            each: {name: values.tolist() for name, values in getattr(fit, each).items()}
            for each in ("modelled", "voltages", "states")
        },
        "covariance": fit.covariance.tolist(),
        "branches": {name: [branch.as_dict() for branch in each] for name, each in fit.branches.items()},
        "variability": [effect.as_dict() for effect in fit.variability],
    }


def _fit(table: Mapping[str, Any]) -> LoopFit:
    return LoopFit(**{
        **table,
        "device": TypeAdapter(AnyDevice).validate_python(table["device"]),
        "intervals": {name: (low, high) for name, (low, high) in table["intervals"].items()},
        **{
            each: {name: np.array(values, dtype=float) for name, values in table[each].items()}
            for each in ("modelled", "voltages", "states")
        },
        "covariance": np.array(table["covariance"], dtype=float),
        "branches": {name: tuple(Branch(**branch) for branch in each) for name, each in table["branches"].items()},
        "variability": tuple(TypeAdapter(AnyEffect).validate_python(effect) for effect in table["variability"]),
        "notes": tuple(table["notes"]),
    })  # fmt: skip
