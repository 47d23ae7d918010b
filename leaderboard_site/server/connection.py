"""A connection that ends, whatever its client does: the timers of both protocols, HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any

from . import metrics

HEAD_S = 5.0  # for the head of a request, or from there to an open socket: a client can send half a head at no cost
READS_NOTHING_S = 30.0
LEAST_READ = 512  # bytes a second: whoever takes fewer counts as one who reads nothing
LINGER_S = 1.0  # for the client to read a last word; unread input would otherwise turn the close into a reset


class Connection:
    """A transport whose client must send heads in time and read what it is sent.

    `close()` returns at once, as a transport's does, but does not wait for ever for a client that no longer reads: it
    may wait `patience_s` without progress. What is not defined here is the transport's own, so that a frame that is
    written costs no Python.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience_s: float) -> None:
        self.transport = transport
        self.patience_s = patience_s
        self.is_closing = transport.is_closing  # asked for each request, and `__getattr__` is slow
        self._loop = loop
        self.head_due = 0.0  # in the loop's clock, while a head is awaited
        self._head: asyncio.TimerHandle | None = None  # set in that time
        self._reading: asyncio.TimerHandle | None = None  # set while the client has to read
        self._unread = 0  # bytes when that was set

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def close(self) -> None:
        if not self.transport.is_closing():
            unread = self.transport.get_write_buffer_size()
            self.transport.close()
            if unread:
                self.expect_reading(self.patience_s)

    def lost(self) -> None:
        """The connection has ended: no timer is needed any more, and one would keep it in memory."""
        self.head_came()
        self.was_read()

    # Heads

    def await_head(self, give_up: Callable[[], object]) -> None:
        """Calls `give_up` when `head_due` has passed, or `HEAD_S` if there is none, unless `head_came` is called before."""
        if self._head is None:
            self.head_due = self.head_due or self._loop.time() + HEAD_S
            self._head = self._loop.call_at(self.head_due, give_up)

    def head_came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head, self.head_due = None, 0.0

    # Reading

    def expect_reading(self, within_s: float) -> None:
        """Cuts the connection once its client has read nothing for `within_s`, unless `was_read` is called before."""
        self.was_read()
        self._unread = self._waiting()
        self._reading = self._loop.call_later(within_s, self._look, within_s)

    def was_read(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def hurry(self, patience_s: float) -> None:
        """Waits no longer than this from now on: the server ends."""
        self.patience_s = patience_s
        if self._reading is not None:
            self.expect_reading(patience_s)

    def _look(self, within_s: float) -> None:
        self._reading = None
        if self._unread - self._waiting() < LEAST_READ * within_s:
            metrics.slow_closes.inc()
            self._reset()
        else:  # slow, but it reads
            self.expect_reading(within_s)

    def _reset(self) -> None:
        """Ends it at once. Without the option the kernel would keep what is not read, and the connection, for minutes."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _waiting(self) -> int:
        """Bytes that the client has not taken, those in the kernel included: it has room for seconds of a slow line."""
        waiting: int = self.transport.get_write_buffer_size()
        if sys.platform == "linux":
            number = self.transport.get_extra_info("socket").fileno()
            waiting += int.from_bytes(fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return waiting


def unmapped(client: tuple[str, int] | None) -> tuple[str, int] | None:
    """The address of a client. A socket for both families has `::ffff:192.0.2.1` for a client with an IPv4 address."""
    if client is None or not client[0].startswith("::ffff:"):
        return client
    return str(IPv6Address(client[0]).ipv4_mapped or client[0]), client[1]
