"""Calibrate: from measured I-V loops, pulse trains, levels and drift to a parameter set, with its confidence."""
