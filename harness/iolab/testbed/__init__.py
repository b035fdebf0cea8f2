"""Where servers and clients stand. One file per testbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


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
