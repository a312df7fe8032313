"""The paper's own data files: fetched, read, split, and made into pairs (neutral answers by a model).

Imports `steering`, `curves` and `storage`.
"""
