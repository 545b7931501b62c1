"""Devices: one physical model per file, each with a SPICE twin in `spice_models/`."""

from typing import Annotated

from pydantic import Field

from mdls_cosim.devices.base import Device
from mdls_cosim.devices.ohmic import Ohmic
from mdls_cosim.devices.sinh import Sinh

AnyDevice = Annotated[Ohmic | Sinh, Field(discriminator="model")]
"""Any device, told apart in TOML by its `model` key."""

__all__ = ["AnyDevice", "Device", "Ohmic", "Sinh"]
