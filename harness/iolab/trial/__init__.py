"""Tuning scripts on trial: run in a disposable guest, watched, and judged knob by knob.

`inside` runs in the guest and records: snapshots and traces of system calls. All the rest is a
function of that recording: `trace` and `values` read it, `attempts` says what the script tried,
`judge` what came of it, `assumptions` what it took for granted.
"""
