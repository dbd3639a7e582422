"""Chooses Keras 2, which TF-Agents needs, before TensorFlow loads Keras 3.

TensorFlow 2.16 and later bring Keras 3, and take the package tf-keras, which is
Keras 2, where TF_USE_LEGACY_KERAS is 1 when they load it. TensorFlow 2.15 and
earlier have Keras 2 themselves, and may not find tf-keras where it is set.
"""

import importlib.metadata
import importlib.util
import os
import sys
from typing import Optional

_NAME = 'TF_USE_LEGACY_KERAS'
_DISTRIBUTIONS = ('tensorflow', 'tensorflow-cpu')
_CHOSEN = ('1', 'true', 'True')  # As TensorFlow reads it.


def needs_keras_2() -> bool:
  """Whether the TensorFlow of this machine has Keras 3 by default."""
  return _version_with_keras_3() is not None


def _version_with_keras_3() -> Optional[str]:
  """The version of TensorFlow, if it has Keras 3; None if it has not."""
  for name in _DISTRIBUTIONS:
    try:
      version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue  # Where none is there, TensorFlow's import says so.
    if tuple(map(int, version.split('.')[:2])) >= (2, 16):
      return version
  return None


def choose_keras_2() -> None:
  """Sets the variable where this machine's TensorFlow needs it.

  Raises:
    ImportError: Keras 3 is in use already; one line with the remedy.
  """
  version = _version_with_keras_3()
  if version is None or os.environ.get(_NAME) in _CHOSEN:
    return
  tensorflow = sys.modules.get('tensorflow')
  if tensorflow is not None and not _route_to_keras_2(tensorflow):
    raise ImportError(
        f'TensorFlow {version} is in use with Keras 3, which TF-Agents does '
        'not know: import rnd_agent before tf.keras is used, or set '
        f'{_NAME}=1 before Python starts'
    )
  os.environ[_NAME] = '1'


def _route_to_keras_2(tensorflow) -> bool:
  """Whether an imported TensorFlow has not loaded its Keras yet.

  It then looks at the variable when tf.keras is first used; only the folder of
  `import tensorflow.keras` was chosen when it was imported.
  """
  keras = vars(tensorflow).get('keras')
  if keras is None or vars(keras).get('_tfll_initialized', True):
    return False
  tf_keras = importlib.util.find_spec('tf_keras')
  if tf_keras is not None:  # Where it is missing, TensorFlow says so.
    folder, = tf_keras.submodule_search_locations
    tensorflow.__path__.insert(0, os.path.join(folder, 'api', '_v2'))
  return True
