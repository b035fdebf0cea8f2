"""Where servers and clients stand. One file per testbed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Testbed(Protocol):
    """Addresses of the server's side, and how a command is placed on either side."""

    @property
    def name(self) -> str:
        """The name that matrices use."""

    @property
    def server_host(self) -> str:
        """The address that servers listen on and clients connect to."""

    @property
    def client_host(self) -> str:
        """The address of the client's side, where role forward finds its upstream."""

    def on_server(self, argv: Sequence[str]) -> list[str]:
        """`argv` wrapped so that it runs on the server's side."""

    def on_client(self, argv: Sequence[str]) -> list[str]:
        """`argv` wrapped so that it runs on the client's side."""

    def at_server(self) -> AbstractContextManager[None]:
        """While it lasts, sockets that the calling thread makes are on the server's side."""

    def at_client(self) -> AbstractContextManager[None]:
        """The same for the client's side."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it beside its name."""
