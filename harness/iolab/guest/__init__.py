"""A disposable machine: QEMU with Debian's kernel, over this host's own files.

`parts` finds what set-up has fetched, `accelerator` whether KVM carries it. `initramfs` packs what
the kernel starts from, `machine` writes QEMU's command line, `session` starts, follows and ends one
guest, `terminal` lends it the caller's terminal.
"""
