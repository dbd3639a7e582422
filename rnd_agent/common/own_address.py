"""Lets a server in this process be reached at one address alone.

TensorFlow's servers listen on all interfaces of the machine, whatever address
they are given, and do what anybody asks of them. The sockets they listen on
belong to this process: on Linux it can attach a filter to them, which drops
what was sent to another address (classic BPF, as tcpdump uses it; no privilege
is needed). Connections that are accepted later inherit it.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import pathlib
import socket
import struct
import threading
from typing import Iterator, Optional

from absl import logging

_INTERVAL = 0.01  # seconds between two looks for the socket
_OPEN_FILES = pathlib.Path('/proc/self/fd')
_SO_ATTACH_FILTER = 26
# Operations of the filter (linux/filter.h).
_LOAD_WORD, _LOAD_BYTE, _SHIFT, _JUMP, _RETURN = 0x20, 0x30, 0x74, 0x15, 0x06
# From here a packet's bytes count from its IP header.
_IP_HEADER = -0x100000
# Where the header has the address that the packet was sent to.
_DESTINATION = {4: 16, 6: 24}


@contextlib.contextmanager
def guarded(address: str) -> Iterator[None]:
  """Restricts a server that is started in the block, within 10 ms.

  Args:
    address: `host:port`; a host's name restricts nothing, for it may mean
      another address here than elsewhere.

  Yields:
    Nothing.

  Raises:
    OSError: the filter was refused.
  """
  host, _, port = address.rpartition(':')
  ip = _ip(host)
  if ip is None or not _OPEN_FILES.exists():
    yield
    return
  done, errors = threading.Event(), []

  def watch():
    try:
      while True:
        is_last = done.is_set()  # Asked first: the server came before it.
        if restrict(ip, int(port)):
          return
        if is_last:
          break
        done.wait(_INTERVAL)
      logging.warning(
          'no server was found on port %s: whoever reaches this machine '
          'reaches it, on any address', port,
      )
    except OSError as error:
      errors.append(error)

  thread = threading.Thread(target=watch, name='guards a port', daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()
  if errors:
    raise errors[0]


def _ip(host: str):
  try:
    return ipaddress.ip_address(host.strip('[]'))
  except ValueError:
    return None


def restrict(ip, port: int) -> bool:
  """Restricts this process's sockets that listen on a port.

  Args:
    ip: an `ipaddress` that packets must be sent to.
    port: of the sockets.

  Returns:
    Whether there was one.

  Raises:
    OSError: the filter was refused.
  """
  found = False
  for name in os.listdir(_OPEN_FILES):
    listening = _listening(int(name), port)
    if listening is not None:
      with listening:
        _attach(listening, _program(ip))
      found = True
  return found


def _listening(number: int, port: int) -> Optional[socket.socket]:
  """A file of this process as a socket, if it listens on the port."""
  try:
    number = os.dup(number)
  except OSError:
    return None  # Closed in the meantime.
  try:
    opened = socket.socket(fileno=number)
  except OSError:
    os.close(number)  # No socket.
    return None
  if (
      opened.family in (socket.AF_INET, socket.AF_INET6)
      and opened.type == socket.SOCK_STREAM
      and opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
      and opened.getsockname()[1] == port
  ):
    return opened
  opened.close()
  return None


def _program(ip) -> list[tuple[int, int, int, int]]:
  """Keeps what was sent to this address: (operation, then, else, number)."""
  words = struct.unpack(f'!{len(ip.packed) // 4}I', ip.packed)
  program = [(_LOAD_BYTE, 0, 0, _IP_HEADER), (_SHIFT, 0, 0, 4)]
  left = 1 + 2 * len(words)  # Operations between the first jump and the drop.
  program.append((_JUMP, 0, left, ip.version))
  for i, word in enumerate(words):
    offset = _IP_HEADER + _DESTINATION[ip.version] + 4 * i
    left -= 2
    program += [(_LOAD_WORD, 0, 0, offset), (_JUMP, 0, left, word)]
  return [*program, (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)]


def _attach(listening: socket.socket, program) -> None:
  code = b''.join(
      struct.pack('=HBBI', operation, then, otherwise, number & 0xFFFFFFFF)
      for operation, then, otherwise, number in program
  )
  buffer = ctypes.create_string_buffer(code, len(code))
  listening.setsockopt(
      socket.SOL_SOCKET, _SO_ATTACH_FILTER,
      struct.pack('@HP', len(program), ctypes.addressof(buffer)),
  )
