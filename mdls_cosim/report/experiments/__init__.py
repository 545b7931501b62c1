"""The chapters of a Dataset's report, one experiment a file: arrays in, figures and tables out."""

from mdls_cosim.report.experiments import energy, faults, iv, pulse, read, settle, sneak, temperature, write
from mdls_cosim.report.experiments.study import Case, Chapter, Drawing, Study

CHAPTERS: dict[str, Chapter] = {
    "iv": iv.CHAPTER,
    "read": read.CHAPTER,
    "sneak": sneak.CHAPTER,
    "faults": faults.CHAPTER,
    "temperature": temperature.CHAPTER,
    "settle": settle.CHAPTER,
    "energy": energy.CHAPTER,
    "pulse": pulse.CHAPTER,
    "write": write.CHAPTER,
}
"""By experiment, in the order of the page: currents, time, switching."""

__all__ = ["CHAPTERS", "Case", "Chapter", "Drawing", "Study"]
