"""The instrument measured: how often a gate is wrong on this machine.

`record.py` measures (sessions of equal and handicapped servers, and whole gates), `resample.py`
draws gates from the sessions, `evaluate.py` turns both into error rates with intervals and targets.
"""
