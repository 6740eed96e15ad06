"""Runs a program of Ray's whose sockets only this host can reach.

Ray's agent for environments of tasks speaks plain HTTP with the node that started it,
at the node's address, whatever `RAY_USE_TLS` says. What is bound to the device `lo`
hears what the host says to its own addresses, and nothing that comes by a network
(socket(7), SO_BINDTODEVICE).

Ray starts it as `python -u on_loopback.py PROGRAM ARGUMENTS`.
"""

import pathlib
import runpy
import socket
import sys


def hide(it: socket.socket) -> None:
    """Binds a socket to the loopback device, whatever address it is bound to.

    Raises:
      OSError: If the system does not allow it: Linux before 5.7 without CAP_NET_RAW.
    """
    it.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')


class OnLoopback(socket.socket):
    """A socket that is hidden before it gets an address."""

    def bind(self, address):
        """Binds, as `socket.socket.bind`."""
        if self.family in (socket.AF_INET, socket.AF_INET6):
            hide(self)
        super().bind(address)


if __name__ == '__main__':
    socket.socket = OnLoopback
    del sys.argv[0]
    sys.path[0] = str(pathlib.Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name='__main__')
