"""A slow and lossy wire between two network interfaces, for kernels without `netem`.

    python wire.py INTERFACE INTERFACE SECONDS LOSS

Runs until killed. SECONDS is the delay and LOSS the share of lost frames, each way. Frames are passed on with what the
kernel notes about them (PACKET_VNET_HDR): those between virtual interfaces have no checksum yet, and may be large.
"""

import heapq
import itertools
import random
import select
import socket
import sys
import time

_ALL = 0x0003  # linux/if_ether.h, ETH_P_ALL
_PACKET, _VNET_HDR, _IGNORE_OUTGOING = 263, 15, 23  # linux/socket.h, linux/if_packet.h
_LONGEST = 70_000  # bytes; up to 64 KiB are sent as one
_BUFFER = 4_000_000


def connect(near: str, far: str, delay: float, loss: float) -> None:
    """Passes frames on forever."""
    ends = [_opened(near), _opened(far)]
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    number = itertools.count()
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for end in select.select(ends, [], [], timeout)[0]:
            frame = end.recv(_LONGEST)
            if random.random() >= loss:
                heapq.heappush(waiting, (time.monotonic() + delay, next(number), other[end], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            *_, end, frame = heapq.heappop(waiting)
            end.send(frame)


def _opened(interface: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    end.setsockopt(_PACKET, _VNET_HDR, 1)
    end.setsockopt(_PACKET, _IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    end.bind((interface, _ALL))
    return end


if __name__ == "__main__":
    connect(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
