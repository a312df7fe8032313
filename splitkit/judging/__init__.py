"""Language models that score answers: rubrics, an endpoint, replies kept on disk.

Imports `world`, `steering` and `storage`.
"""
