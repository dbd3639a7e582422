"""Networks over whole rollouts, in parts that fit the processor's cache."""

import tensorflow as tf

from rnd_agent.common import machine

# Samples per forward pass: on a processor, few enough for the activations to
# stay in its cache.
_CHUNK = {'CPU': 256, 'GPU': 8192}


def in_chunks(function, selected: tf.Tensor, inner_shape) -> tf.Tensor:
  """`function` over `[B, T, ...]`, some environments at a time."""
  batch, length = selected.shape[:2]
  inner = selected.shape[2:].as_list()
  inner_shape = tf.TensorShape(inner_shape).as_list()
  if batch is None or length is None:  # Sizes unknown: one chunk.
    outer = tf.shape(selected)[:2]
    flat = function(tf.reshape(selected, [-1] + inner))
    return tf.reshape(flat, tf.concat([outer, inner_shape], axis=0))
  kind = 'GPU' if tf.config.list_logical_devices('GPU') else 'CPU'
  # The most environments per chunk that divide the batch evenly.
  size = max(n for n in range(1, batch + 1)
             if batch % n == 0 and (n == 1 or n * length <= _CHUNK[kind]))
  results = tf.map_fn(
      function,
      tf.reshape(selected, [batch // size, size * length] + inner),
      fn_output_signature=tf.TensorSpec(
          [size * length] + inner_shape, tf.float32
      ),
      parallel_iterations=machine.available_cores(),
  )
  return tf.reshape(results, [batch, length] + inner_shape)
