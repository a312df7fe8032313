"""The made world: its grammar, tasks and exact scores, and the two tiny models trained on it.

Imports `steering`, `curves` and `storage`.
"""
