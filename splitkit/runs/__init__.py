"""From a profile to finished cells and kept tables; their answers and scores, yes or no among them.

Also the search for training settings and the learning curves before it, the checks before a run, and the
running of notebooks.

Imports everything but `studies`, `plots` and the commands.
"""
