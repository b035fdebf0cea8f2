"""What the relay must reach beside speed: constant memory, backpressure, cheap waiting, no leaks.

`model.py` and `judge.py` are pure: raw record in, figures with verdicts out. `probe.py` reads a
server from outside, `parties.py` and `victim.py` are its clients, `parts.py` makes one raw record
a part, `bench.py` runs them one after another and stores them.
"""
