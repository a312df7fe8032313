"""The mathematics, arrays in, no model: log-odds, validity decay, fits, bootstrap, operating point, shapes.

`shapes` also has the criteria by which a curve is straight, falls or has settled (claims C2 to C4).

Imports nothing of splitkit.
"""
