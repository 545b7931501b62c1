"""The command line, `mdls-cosim`: one command a file. Importing a command's module adds it to the application."""

from mdls_cosim.cli import (  # noqa: F401
    audit,
    calibrate,
    characterize,
    deck,
    demo,
    doctor,
    fit,
    info,
    report,
    simulate,
    validate,
)
from mdls_cosim.cli.app import app, main

__all__ = ["app", "main"]
