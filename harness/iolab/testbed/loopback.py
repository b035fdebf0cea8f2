"""Server and client on this host, through the loopback device.

The kernel hands pages from sender to receiver there: zero-copy sends are always copied, and no
driver, queue or interrupt takes part. Reports label such results.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Loopback:
    """The testbed `loopback`."""

    name: str = "loopback"
    server_host: str = "127.0.0.1"
    client_host: str = "127.0.0.1"

    def on_server(self, argv: Sequence[str]) -> list[str]:
        """See Testbed."""
        return list(argv)

    def on_client(self, argv: Sequence[str]) -> list[str]:
        """See Testbed."""
        return list(argv)

    def at_server(self) -> AbstractContextManager[None]:
        """See Testbed."""
        return nullcontext()

    def at_client(self) -> AbstractContextManager[None]:
        """See Testbed."""
        return nullcontext()

    def facts(self) -> dict[str, Any]:
        """See Testbed."""
        return {}
