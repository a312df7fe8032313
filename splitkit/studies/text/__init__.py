"""Losses beside what the model writes: whether the log-odds predict it, and how many nats to spend.

Imports what `studies` may.
"""
