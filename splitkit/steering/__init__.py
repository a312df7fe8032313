"""The engine: pairs, models, interventions, training, sweeps and generation for any causal language model.

Imports `storage` and `curves`.
"""
