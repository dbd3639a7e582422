"""What all tests share: an empty gin before and after each, and free memory."""

import ctypes
import gc
import pathlib
import sys
from unittest import mock

import gin
import pytest

import rnd_agent  # noqa: F401, before TF-Agents: it chooses Keras 2

_HERE = pathlib.Path(__file__).resolve().parent
# The scripts, the benchmarks, and the toy environments, which the environments'
# processes import as well.
sys.path[:0] = [str(path) for path in (
    _HERE.parent, _HERE.parent / 'benchmarks', _HERE, _HERE / 'environments'
)]


@pytest.fixture(autouse=True)
def _empty_gin():
  gin.clear_config()
  yield
  gin.clear_config()


@pytest.fixture(autouse=True, scope='module')
def _free_memory():
  """Gives back what the graphs of a file's agents took."""
  yield
  if 'tensorflow' in sys.modules:
    _forget_graphs()
  gc.collect()
  ctypes.CDLL(None).malloc_trim(0)


def _forget_graphs():
  import tensorflow as tf
  from tensorflow.python.framework import ops

  tf.keras.backend.clear_session()
  # TensorFlow keeps every gradient of tf.custom_gradient by name, and with it
  # the graph that it stands in, to the end of the process.
  gradients = ops.gradient_registry._registry
  for name in [n for n in gradients if n.startswith('CustomGradient-')]:
    del gradients[name]


@pytest.fixture
def no_export(request):
  """Runs end without exporting their policies, which takes seconds.

  A test that looks at what is exported is marked `exports`.
  """
  if request.node.get_closest_marker('exports'):
    yield
    return
  with mock.patch('rnd_agent.training.export.export_policies'):
    yield
