"""Whole torch models on memristor hardware: train, convert, evaluate, audit."""

from mdls_cosim.network.audit import AuditReport, LayerAudit, audit
from mdls_cosim.network.calibrate import calibrate
from mdls_cosim.network.chips import analog_layers, program
from mdls_cosim.network.conversion import ConversionReport, ConvertedLayer, SkippedLayer
from mdls_cosim.network.convert import convert
from mdls_cosim.network.evaluate import Accuracy, evaluate
from mdls_cosim.network.rungs import on_rung
from mdls_cosim.network.train import History, train

__all__ = [
    "Accuracy",
    "AuditReport",
    "ConversionReport",
    "ConvertedLayer",
    "History",
    "LayerAudit",
    "SkippedLayer",
    "analog_layers",
    "audit",
    "calibrate",
    "convert",
    "evaluate",
    "on_rung",
    "program",
    "train",
]
