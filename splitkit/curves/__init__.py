"""The mathematics, arrays in, no model: log-odds, validity decay, fits, bootstrap, shapes, operating point.

Imports nothing of splitkit.
"""
