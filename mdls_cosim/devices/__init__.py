"""Devices: one physical model per file, each with a SPICE twin in `spice_models/`."""

from typing import Annotated

from pydantic import Field

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Device, DynamicDevice
from mdls_cosim.devices.data_driven import DataDriven
from mdls_cosim.devices.dynamics import after_pulses, evolve, trace
from mdls_cosim.devices.jart_vcm import JartVcm
from mdls_cosim.devices.linear_ion_drift import LinearIonDrift
from mdls_cosim.devices.measured_curves import MeasuredCurves
from mdls_cosim.devices.metastable_switch import MetastableSwitch
from mdls_cosim.devices.ohmic import Ohmic
from mdls_cosim.devices.passive_tio2 import PassiveTio2
from mdls_cosim.devices.phase_change import PhaseChange
from mdls_cosim.devices.polynomial_read import PolynomialRead
from mdls_cosim.devices.selectors import AnySelector, ExponentialSelector, Selector, ThresholdSelector
from mdls_cosim.devices.sinh import Sinh
from mdls_cosim.devices.stanford_pku import StanfordPku
from mdls_cosim.devices.transistor import Nmos
from mdls_cosim.devices.vteam import Vteam
from mdls_cosim.devices.yakopcic import Yakopcic

Memristor = (
    Ohmic
    | Sinh
    | PassiveTio2
    | PolynomialRead
    | PhaseChange
    | LinearIonDrift
    | Vteam
    | Yakopcic
    | MetastableSwitch
    | DataDriven
    | StanfordPku
    | JartVcm
)
AnyDevice = Annotated[Memristor, Field(discriminator="model")]
"""Any memristor, told apart in TOML by its `model` key."""

__all__ = [
    "ROOM_TEMPERATURE",
    "AnyDevice",
    "AnySelector",
    "DataDriven",
    "Device",
    "DynamicDevice",
    "ExponentialSelector",
    "JartVcm",
    "LinearIonDrift",
    "MeasuredCurves",
    "Memristor",
    "MetastableSwitch",
    "Nmos",
    "Ohmic",
    "PassiveTio2",
    "PhaseChange",
    "PolynomialRead",
    "Selector",
    "Sinh",
    "StanfordPku",
    "ThresholdSelector",
    "Vteam",
    "Yakopcic",
    "after_pulses",
    "evolve",
    "trace",
]
