"""The frames between an engine and its worker: lengths, a JSON header, raw little-endian float64 values."""

import json
import struct
from typing import Any

import numpy as np

__all__ = ["LENGTHS", "frame", "split"]

LENGTHS = struct.Struct("<QQ")  # bytes of the header, bytes of the values


def frame(header: dict[str, Any], values: np.ndarray | None = None) -> bytes:
    """One message."""
    head = json.dumps(header).encode()
    body = b"" if values is None else np.ascontiguousarray(values, dtype="<f8").tobytes()
    return LENGTHS.pack(len(head), len(body)) + head + body


def split(content: bytes, header_length: int) -> tuple[dict[str, Any], np.ndarray]:
    """Header and values of a message whose lengths have been taken off."""
    values = np.frombuffer(content, dtype="<f8", offset=header_length)
    return json.loads(content[:header_length]), values
