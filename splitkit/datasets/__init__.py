"""The paper's own data files: fetched, read, split, and made into pairs.

Imports `steering`, `curves` and `storage`.
"""
