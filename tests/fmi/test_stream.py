"""The channel over sockets, by itself: two ends of a pair."""

import socket

import pytest
from recording import Rank

import fmi
from fmi.channels.stream import StreamChannel


class Pair:
    """The two ends of a Unix socket, as a transport."""

    def __init__(self):
        self.ends = socket.socketpair()

    def open(self, group, rank, size, deadline):
        return StreamChannel(rank, size, b"one run.", {1 - rank: self.ends[rank]})


@pytest.mark.parametrize("size", [10, 500_000], ids=["small", "large"])
def test_what_a_rank_said_before_it_left_is_read_before_it_is_given_up(size):
    """It may be the reason, and lie behind much that this rank has not read yet."""
    pair = Pair()
    here, there = (Rank(pair, "g", rank, 2) for rank in range(2))
    there.send(0, bytes(300_000))
    there.send(0, b"the reason")
    there.close()
    with pytest.raises(fmi.PeerLost, match="its connection"):
        here.send(1, bytes(size))
    assert [payload for *_, payload in here.got] == [bytes(300_000), b"the reason"]
    assert 1 in here.gone
    here.close()
