"""Verdicts on the paper's claims C1 to C12: rules, then decisions from tidy tables, for any model.

`judge` goes from the kept tables of a profile to its verdicts, `view` shows a claim in a notebook. They judge
the records of the profiles `tiny` and `small`; the record of `embedded` keeps the rules of
`studies.claims` and `studies.verdicts`, under which it was made. Imports what `studies` may.
"""
