"""Pairs of one's own: read from files and tables, and looked at before anything is trained on them."""
