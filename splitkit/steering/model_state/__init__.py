"""A model as its user holds it: what is wrapped around it, what counts as part of it, who changes it now.

Imports nothing of the rest of `steering`.
"""
