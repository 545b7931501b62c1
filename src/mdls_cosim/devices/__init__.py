"""Devices: one physical model per file, each with a SPICE twin in `spice_models/`."""

from typing import Annotated

from pydantic import Field

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Device, DynamicDevice
from mdls_cosim.devices.ohmic import Ohmic
from mdls_cosim.devices.selectors import AnySelector, ExponentialSelector, Selector, ThresholdSelector
from mdls_cosim.devices.sinh import Sinh
from mdls_cosim.devices.transistor import Nmos
from mdls_cosim.devices.vteam import Vteam

Memristor = Ohmic | Sinh | Vteam
AnyDevice = Annotated[Memristor, Field(discriminator="model")]
"""Any memristor, told apart in TOML by its `model` key."""

__all__ = [
    "ROOM_TEMPERATURE",
    "AnyDevice",
    "AnySelector",
    "Device",
    "DynamicDevice",
    "ExponentialSelector",
    "Memristor",
    "Nmos",
    "Ohmic",
    "Selector",
    "Sinh",
    "ThresholdSelector",
    "Vteam",
]
