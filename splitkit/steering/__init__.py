"""The engine for any causal language model: pairs, loading, interventions, training, sweeps and generation.

Also the models that ship with splitkit, and the layer that is steered of each (`formats.shipped.MODELS`).

Imports `storage` and `curves`.
"""
