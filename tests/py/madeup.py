"""Slices and sessions that nobody measured, for tests that know what is true of them."""

from __future__ import annotations

import math

import numpy as np

from iolab.model import Sample, Status
from iolab.selftest.model import PLANTED, Session


def sound_slice(
    block: int, cell: str, body_bytes: float, *, order: int = 0, requests: float = 1
) -> Sample:
    """A slice of a second, fit to count: so many bytes of bodies, and a client that hardly works.

    `cell` is an id, `order` its place in the block.
    """
    load = {
        "window": {"ns": 10**9, "requests": requests, "body_bytes": body_bytes},
        "cpu": {"client_ns": 1, "server_ns": 1, "client_share": 0.1},
    }
    return Sample(block, order, cell, Status.OK, None, 0, 1, load)


def session(seed: int, blocks: int = 60, spread: float = 0.03, luck: float = 0.0) -> Session:
    """A session of made-up noise of that standard deviation; `luck` is what its twin has by chance.

    The servers with a handicap are slower by just that.
    """
    rng = np.random.default_rng(seed)
    return Session(
        twin=luck + rng.normal(0, spread, blocks),
        planted={p: -math.log1p(p / 100) + rng.normal(0, spread, blocks) for p in PLANTED},
        second_per_slice=0.2,
    )
