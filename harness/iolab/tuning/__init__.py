"""The tuning bench: applies declared profiles exactly, proves each knob took, restores the host.

`profile` (TOML) -> `planning` (concrete settings, computed from the topology) -> `engine` (journal,
write, read back, revert). `families/` has one file per kind of knob. docs/tuning.md explains them.
"""
