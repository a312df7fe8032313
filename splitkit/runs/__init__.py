"""From a profile to finished cells and kept tables.

Imports everything but `studies`, `plots` and the commands.
"""
