"""Figures: a tidy table in, a matplotlib figure out.

Imports everything but the commands.
"""
