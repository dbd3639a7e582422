"""The copy task: compares a DNC with an LSTM as large as its controller.

python benchmarks/copy_task.py [--seeds=3] [--steps=4000] [--length=8] \
  [--model=dnc --model=lstm] [--json]

The input is a sequence of random bit vectors, a delimiter, and zeros; while it
reads the zeros, the network must output the sequence. Training draws the length
of each sequence from 1 to `length`; errors are counted on new sequences of the
full length. Both networks have the same optimizer (Adam, clipped gradients) and
the same batches. Training stops below 0.01 errors per sequence.
"""

import json
import os
import platform
import time
from typing import NamedTuple

from absl import app
from absl import flags
import numpy as np

_MODELS = flags.DEFINE_multi_enum(
    'model', ['dnc', 'lstm'], ['dnc', 'lstm'], 'Network to train; may repeat.'
)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Runs per model, seeds 0, 1, ...')
_STEPS = flags.DEFINE_integer('steps', 4000, 'Most training steps.')
_REPORT = flags.DEFINE_integer('report', 250, 'Steps between two test rows.')
_LENGTH = flags.DEFINE_integer('length', 8, 'Longest sequence, in vectors.')
_WIDTH = flags.DEFINE_integer('width', 6, 'Bits per vector.')
_MEMORY = flags.DEFINE_integer('memory_size', 16, 'Rows of the memory.')
_WORD = flags.DEFINE_integer('word_size', 16, 'Numbers per row.')
_HEADS = flags.DEFINE_integer('num_read_heads', 2, 'Read heads.')
_UNITS = flags.DEFINE_integer(
    'controller_units', 64, "Units of the LSTM, and of the DNC's controller."
)
_BATCH = flags.DEFINE_integer('batch_size', 16, 'Sequences per step.')
_RATE = flags.DEFINE_float('learning_rate', 3e-3, 'Of Adam.')
_CLIP = flags.DEFINE_float('clip', 10.0, 'Largest global norm of a gradient.')
_THREADS = flags.DEFINE_integer('threads', 1, 'Of TensorFlow; 0: all cores.')
_JSON = flags.DEFINE_boolean('json', False, 'Print JSON instead of a table.')

SOLVED = 0.01  # Errors per sequence.
TEST_SEQUENCES = 500


class Batch(NamedTuple):
  """B sequences of up to L vectors, over T = 2 L + 1 steps."""

  inputs: np.ndarray  # float32 [B, T, width + 1]; the last is the delimiter.
  targets: np.ndarray  # float32 [B, T, width], bits.
  mask: np.ndarray  # float32 [B, T], 1 where the loss counts, else 0.


def copy_batch(rng, lengths, width, longest) -> Batch:
  """Draws sequences of the given lengths, `[B]`, each at most `longest`."""
  lengths = np.asarray(lengths)
  batch, steps = len(lengths), 2 * longest + 1
  inputs = np.zeros([batch, steps, width + 1], np.float32)
  targets = np.zeros([batch, steps, width], np.float32)
  mask = np.zeros([batch, steps], np.float32)
  for b, length in enumerate(lengths):
    bits = rng.integers(0, 2, [length, width])
    inputs[b, :length, :width] = bits
    inputs[b, length, width] = 1
    targets[b, length + 1:2 * length + 1] = bits
    mask[b, length + 1:2 * length + 1] = 1
  return Batch(inputs, targets, mask)


def build(model):
  """A Keras model, `[B, T, width + 1]` to logits `[B, T, width]`."""
  import tensorflow as tf

  from rnd_agent.layers import dnc

  if model == 'lstm':
    return tf.keras.Sequential([
        tf.keras.layers.LSTM(_UNITS.value, return_sequences=True),
        tf.keras.layers.Dense(_WIDTH.value),
    ])
  cell = dnc.DNCCell(
      memory_size=_MEMORY.value, word_size=_WORD.value,
      num_read_heads=_HEADS.value, controller_units=_UNITS.value,
      output_units=_WIDTH.value,
  )
  return tf.keras.Sequential([
      tf.keras.layers.RNN(cell, return_sequences=True)
  ])


def train(model, seed, report):
  """Trains one network.

  Args:
    model: 'dnc' or 'lstm'.
    seed: of the weights and of the sequences.
    report: called with a row after each test.

  Returns:
    The rows: dicts of model, seed, step, loss (training, nats per bit),
    bit_errors (test, per sequence) and seconds (training alone).
  """
  import tensorflow as tf

  tf.keras.utils.set_random_seed(seed)
  rng = np.random.default_rng([seed, 0])
  test = copy_batch(
      np.random.default_rng([seed, 1]), [_LENGTH.value] * TEST_SEQUENCES,
      _WIDTH.value, _LENGTH.value,
  )
  network = build(model)
  network.build([None, None, _WIDTH.value + 1])
  optimizer = tf.keras.optimizers.Adam(
      _RATE.value, global_clipnorm=_CLIP.value
  )

  @tf.function
  def step(batch):
    with tf.GradientTape() as tape:
      losses = tf.nn.sigmoid_cross_entropy_with_logits(
          batch.targets, network(batch.inputs)
      )
      masked = tf.reduce_mean(losses, axis=-1) * batch.mask
      loss = tf.reduce_sum(masked) / tf.reduce_sum(batch.mask)
    variables = network.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    return loss

  @tf.function
  def bit_errors(batch):
    wrong = (network(batch.inputs) > 0) != (batch.targets > 0.5)
    wrong = tf.reduce_sum(tf.cast(wrong, tf.float32), axis=-1) * batch.mask
    return tf.reduce_sum(wrong)

  rows, losses, seconds = [], [], 0.0
  for number in range(1, _STEPS.value + 1):
    lengths = rng.integers(1, _LENGTH.value + 1, _BATCH.value)
    batch = copy_batch(rng, lengths, _WIDTH.value, _LENGTH.value)
    start = time.monotonic()
    losses.append(float(step(Batch(*map(tf.constant, batch)))))
    seconds += time.monotonic() - start
    if number % _REPORT.value == 0 or number == _STEPS.value:
      errors = int(bit_errors(Batch(*map(tf.constant, test))))
      rows.append(dict(
          model=model, seed=seed, step=number, loss=float(np.mean(losses)),
          bit_errors=errors / TEST_SEQUENCES, seconds=seconds,
      ))
      report(rows[-1])
      losses.clear()
      if rows[-1]['bit_errors'] < SOLVED:
        break
  return rows


def main(_):
  """Trains each model with each seed, one after the other."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
  tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
  report = (lambda _: None) if _JSON.value else _print_row
  if not _JSON.value:
    print('model  seed   step   loss/bit  bit errors/sequence  seconds')
  results = [
      train(model, seed, report)
      for model in _MODELS.value for seed in range(_SEEDS.value)
  ]
  if _JSON.value:
    machine = f'{platform.machine()}, {os.cpu_count()} cores'
    print(json.dumps({'machine': machine, 'results': results}, indent=2))
    return
  print(f'\nat the end, of {_LENGTH.value * _WIDTH.value} bits:')
  for rows in results:
    _print_row(rows[-1])


def _print_row(row):
  print(
      f"{row['model']:5}  {row['seed']:4}  {row['step']:5}  {row['loss']:9.5f}"
      f"  {row['bit_errors']:19.3f}  {row['seconds']:7.0f}",
      flush=True,
  )


if __name__ == '__main__':
  app.run(main)
