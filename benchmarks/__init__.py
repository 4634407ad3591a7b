"""Measurements: ``python -m benchmarks NAME``.  Figures are for the machine they are made on."""
