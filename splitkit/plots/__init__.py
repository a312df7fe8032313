"""Figures: a tidy table in, a matplotlib figure out.

Imports everything but the commands. A table that lacks a column or a wanted value raises a ValueError, which
names it and what there is.
"""
