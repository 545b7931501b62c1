"""Reports: figures, tables, and one self-contained HTML page. Reads results and formats them; computes nothing."""

from mdls_cosim.report.dataset_page import render_dataset
from mdls_cosim.report.page import render_demo
from mdls_cosim.report.tables import (
    Table,
    class_table,
    fit_table,
    fitted_parameters,
    layer_table,
    settings_table,
    time_table,
    tool_table,
)

__all__ = [
    "Table",
    "class_table",
    "fit_table",
    "fitted_parameters",
    "layer_table",
    "render_dataset",
    "render_demo",
    "settings_table",
    "time_table",
    "tool_table",
]
