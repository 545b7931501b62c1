"""Reports: figures, tables, and one self-contained HTML page. Reads results and formats them; computes nothing."""

from mdls_cosim.report.audit import AT_REST, audit_tables, read_audit, render_audit
from mdls_cosim.report.dataset_page import render_dataset
from mdls_cosim.report.experiment import render_simulation, simulation_tables
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
    "AT_REST",
    "Table",
    "audit_tables",
    "class_table",
    "fit_table",
    "fitted_parameters",
    "layer_table",
    "read_audit",
    "render_audit",
    "render_dataset",
    "render_demo",
    "render_simulation",
    "settings_table",
    "simulation_tables",
    "time_table",
    "tool_table",
]
