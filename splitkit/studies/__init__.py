"""This paper's experiments: a file per notebook or question, tidy tables out.

Imports everything but `plots` and the commands.
"""
