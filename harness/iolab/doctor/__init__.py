"""What this machine has and lacks for measuring, and what to do about it.

`look.py` takes in a `Machine` (machine.py); every check, by subject in `programs.py`,
`processors.py`, `limits.py` and `network.py`, is a function of it and answers with one `Finding`;
`examine.py` asks all of them.
"""
