"""Which Keras TensorFlow takes, and what is repaired of TF-Agents."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from rnd_agent.common import keras_choice
from rnd_agent.common import repairs

_NEWER = pytest.mark.skipif(
    not keras_choice.needs_keras_2(), reason='this TensorFlow has Keras 2'
)


def _run(*lines):
  return subprocess.run(
      [sys.executable, '-c', '\n'.join(lines)], capture_output=True, text=True,
      env={'TF_CPP_MIN_LOG_LEVEL': '3'}, check=False, timeout=120,
  )


_SHOW = (
    'import os, rnd_agent.networks, tensorflow as tf',
    'from tensorflow.keras import layers',
    'assert layers.Dense is tf.keras.layers.Dense',
    "print(os.environ.get('TF_USE_LEGACY_KERAS'), layers.Dense.__module__)",
)


@pytest.mark.slow
@pytest.mark.parametrize('first', ['', 'import tensorflow'])
def test_keras_2_is_what_tf_agents_gets(first):
  result = _run(first, *_SHOW)
  assert result.returncode == 0, result.stderr
  chosen, module = result.stdout.split()
  if keras_choice.needs_keras_2():
    assert chosen == '1' and module.startswith('tf_keras.')
  else:  # Where Keras 2 is TensorFlow's own, the variable would do harm.
    assert chosen == 'None' and module.startswith('keras.')


@_NEWER
def test_keras_3_in_use_is_one_line():
  result = _run(
      'import tensorflow as tf', 'tf.keras.layers', 'import rnd_agent'
  )
  line = result.stderr.strip().splitlines()[-1]
  assert result.returncode == 1
  assert line.startswith('ImportError: TensorFlow ')
  assert 'import rnd_agent before tf.keras is used' in line


@pytest.mark.parametrize('version, needed', [
    ('2.15.1', False), ('2.16.0', True), ('2.9.0', False), ('3.0.0', True),
])
def test_versions(monkeypatch, version, needed):
  monkeypatch.setattr('importlib.metadata.version', lambda name: version)
  assert keras_choice.needs_keras_2() == needed


@pytest.mark.parametrize('bounds', [(0, 255), (250, 255), (3, 3)])
@pytest.mark.parametrize('repair', [False, True])
def test_all_values_of_uint8_are_sampled(monkeypatch, bounds, repair):
  if repair:  # Also where the installed NumPy needs none.
    monkeypatch.setattr(
        tensor_spec, 'sample_bounded_spec', tensor_spec.sample_bounded_spec
    )
    repairs._repair_uint8_samples()
  spec = tensor_spec.BoundedTensorSpec([4000], tf.uint8, *bounds)
  sample = tensor_spec.sample_bounded_spec(spec, seed=1, outer_dims=[2])
  assert sample.dtype == tf.uint8 and sample.shape == (2, 4000)
  assert set(np.unique(sample)) == set(range(bounds[0], bounds[1] + 1))
