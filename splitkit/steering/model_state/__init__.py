"""A model in use: what is wrapped around it, its digest, who changes it now, and which tokens that concerns.

Imports nothing of the rest of `steering`.
"""
