"""Language models that score answers: rubrics, an endpoint, kept replies, agreement with exact scores.

Imports `world`, `steering` and `storage`.
"""
