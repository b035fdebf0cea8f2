from __future__ import annotations

from iolab.doctor import look
from iolab.paths import find_house


def test_every_peer_of_the_tree_is_listed() -> None:
    house = find_house()
    names = [peer.name for peer in look.peers_of(house)]
    assert names == sorted(path.stem for path in house.peers.glob("*.toml"))
