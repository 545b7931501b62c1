"""Whole torch models on memristor hardware: train, convert, evaluate, audit."""

from mdls_cosim.network.audit import AuditReport, LayerAudit, audit
from mdls_cosim.network.calibrate import calibrate
from mdls_cosim.network.chips import analog_layers, program
from mdls_cosim.network.compensate import Correction, calibrate_columns, compensate_drift, reestimate_batch_norm
from mdls_cosim.network.conversion import ConversionReport, ConvertedLayer, SkippedLayer
from mdls_cosim.network.conversion_plan import check
from mdls_cosim.network.convert import convert
from mdls_cosim.network.converters import register_converter, unregister_converter
from mdls_cosim.network.data import LabelledData, cifar10, digits, npz
from mdls_cosim.network.evaluate import Accuracy, evaluate
from mdls_cosim.network.moments import at
from mdls_cosim.network.rungs import on_rung
from mdls_cosim.network.to_torch import to_torch
from mdls_cosim.network.train import History, train
from mdls_cosim.network.weights import load_weights, save_weights

__all__ = [
    "Accuracy",
    "AuditReport",
    "ConversionReport",
    "ConvertedLayer",
    "Correction",
    "History",
    "LabelledData",
    "LayerAudit",
    "SkippedLayer",
    "analog_layers",
    "at",
    "audit",
    "calibrate",
    "calibrate_columns",
    "check",
    "cifar10",
    "compensate_drift",
    "convert",
    "digits",
    "evaluate",
    "load_weights",
    "npz",
    "on_rung",
    "program",
    "reestimate_batch_norm",
    "register_converter",
    "save_weights",
    "to_torch",
    "train",
    "unregister_converter",
]
