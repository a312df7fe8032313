"""The activation manifold: estimated, measured against, and related to utility (claim C9).

Imports what `studies` may.
"""
