"""A server that listens everywhere is reached at one address alone."""

import ipaddress
import socket
import sys

import pytest

from rnd_agent.common import own_address

pytestmark = pytest.mark.skipif(
    sys.platform != 'linux', reason='the filters are those of Linux'
)


def _server(family, host):
  server = socket.socket(family, socket.SOCK_STREAM)
  server.bind((host, 0))
  server.listen()
  return server, server.getsockname()[1]


def _answers(host, port):
  try:
    socket.create_connection((host, port), timeout=0.5).close()
  except OSError:
    return False
  return True


@pytest.mark.parametrize('family, everywhere', [
    (socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::'),
])
def test_only_the_given_address_answers(family, everywhere):
  server, port = _server(family, everywhere)
  other, other_port = _server(family, everywhere)
  with server, other:
    assert _answers('127.0.0.1', port) and _answers('127.0.0.2', port)
    assert own_address.restrict(ipaddress.ip_address('127.0.0.1'), port)
    assert _answers('127.0.0.1', port) and not _answers('127.0.0.2', port)
    assert _answers('127.0.0.2', other_port)


def test_an_address_of_version_six():
  server, port = _server(socket.AF_INET6, '::')
  with server:
    assert own_address.restrict(ipaddress.ip_address('::1'), port)
    assert _answers('::1', port) and not _answers('127.0.0.1', port)
    assert own_address.restrict(ipaddress.ip_address('fe80::1'), port)
    assert not _answers('::1', port)


def test_a_connection_goes_on_and_carries_data():
  server, port = _server(socket.AF_INET, '0.0.0.0')
  with server:
    own_address.restrict(ipaddress.ip_address('127.0.0.1'), port)
    with socket.create_connection(('127.0.0.1', port), timeout=5) as client:
      accepted, _ = server.accept()
      with accepted:
        data = bytes(range(256)) * 4096
        client.settimeout(5)
        received = b''
        for start in range(0, len(data), 2**16):
          client.sendall(data[start:start + 2**16])
          while len(received) < start + 2**16:
            received += accepted.recv(2**16)
  assert received == data


def test_a_server_of_the_block_is_restricted_from_then_on():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  server = socket.socket()
  server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  with server:
    with own_address.guarded(f'127.0.0.1:{port}'):
      server.bind(('0.0.0.0', port))
      server.listen()
    assert _answers('127.0.0.1', port) and not _answers('127.0.0.2', port)


def test_a_name_restricts_nothing():
  server, port = _server(socket.AF_INET, '0.0.0.0')
  with server:
    with own_address.guarded(f'localhost:{port}'):
      pass
    assert _answers('127.0.0.1', port) and _answers('127.0.0.2', port)
