"""Where and how training computes: threads, devices, XLA.

None of this changes what is learned, up to the rounding of sums.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Optional, Sequence

import tensorflow as tf
from tf_agents.utils import common

from rnd_agent import config as config_lib
from rnd_agent.common import machine
from rnd_agent.learning import micro_batches
from rnd_agent.learning import replicas

# Steps per forward and backward pass on a processor: activations stay in the
# cache (measured: docs/performance.md).
_CPU_MICRO_BATCH = 128


def set_threads(config: config_lib.ComputeConfig) -> None:
  """Sets TensorFlow's threads; to be called before its first operation.

  Args:
    config: how many.

  Raises:
    ValueError: TensorFlow has started already, with other numbers.
  """
  on_gpu = bool(tf.config.list_physical_devices('GPU'))
  cores = machine.available_cores()
  threading = tf.config.threading
  for name, default, get, set_to in (
      ('intra_op_threads', cores if on_gpu else 1,
       threading.get_intra_op_parallelism_threads,
       threading.set_intra_op_parallelism_threads),
      ('inter_op_threads', cores,
       threading.get_inter_op_parallelism_threads,
       threading.set_inter_op_parallelism_threads),
  ):
    wanted = getattr(config, name)
    try:
      set_to(wanted or default)
    except RuntimeError as error:
      if wanted not in (None, get()):
        raise ValueError(
            f'ComputeConfig.{name} = {wanted}: TensorFlow runs already with '
            f'{get() or "its own choice"}: set it before the first operation.'
        ) from error


def bfloat16_slowdown() -> float:
  """How much longer a convolution's gradient takes in bfloat16, as a factor.

  It is measured, on the current device and in less than a second:
  without instructions for bfloat16 TensorFlow computes this gradient several
  times slower than in float32 (docs/performance.md).

  Returns:
    The time in bfloat16 by the time in float32, each the best of three.
  """
  gradients = [
      _convolution_gradient(dtype) for dtype in (tf.float32, tf.bfloat16)
  ]
  times = [[_seconds(gradient) for gradient in gradients] for _ in range(4)]
  in_float32, in_bfloat16 = map(min, zip(*times[1:]))  # The first is traced.
  return in_bfloat16 / in_float32


def _convolution_gradient(dtype) -> Callable[[], tf.Tensor]:
  """The gradient of the torso's second convolution, for 32 images."""
  images = tf.ones([32, 20, 20, 32], dtype)
  kernel = tf.ones([4, 4, 32, 64], dtype)

  @tf.function(autograph=False)
  def gradient():
    with tf.GradientTape() as tape:
      tape.watch(kernel)
      features = tf.nn.conv2d(images, kernel, 2, 'VALID')
    return tape.gradient(features, kernel)

  return gradient


def _seconds(function: Callable[[], tf.Tensor]) -> float:
  start = time.perf_counter()
  function().numpy()
  return time.perf_counter() - start


class Lanes:
  """Devices and threads that share the work of every minibatch."""

  def __init__(self, config: Optional[config_lib.ComputeConfig] = None):
    """Chooses the devices; TensorFlow starts here, if it has not yet.

    Args:
      config: as gin binds it by default.

    Raises:
      ValueError: a device that is not there.
    """
    config = config or config_lib.ComputeConfig()
    self._config = config
    there = tf.config.list_logical_devices()
    workers = replicas.workers()
    if workers is not None:
      there = [device for device in there if workers.is_local(device.name)]
    names = [':'.join(d.name.split(':')[-2:]) for d in there]
    for device in config.devices or ():
      if device not in names:
        raise ValueError(
            f'ComputeConfig.devices: there is no {device!r} among '
            f'{", ".join(names)}.'
        )
    gpus = [name for name in names if name.startswith('GPU')]
    chosen = tuple(config.devices or gpus)
    self._on_cpu = not any(name.startswith('GPU') for name in chosen)
    if tf.distribute.has_strategy() and not config.devices:
      chosen = ()  # A replica computes on its own device.
    self._devices = chosen or (None,)
    if self._on_cpu and len(self._devices) == 1:
      threads = tf.config.threading.get_inter_op_parallelism_threads()
      self._devices *= threads or machine.available_cores()
    if config.lanes is not None:
      self._devices = tuple(
          self._devices[i % len(self._devices)] for i in range(config.lanes)
      )

  @property
  def device(self) -> Optional[str]:
    """The first device, where variables and rollouts belong; None: any."""
    return self._devices[0]

  @property
  def num_lanes(self) -> int:
    return len(self._devices)

  @property
  def leaves_threads(self) -> bool:
    """Whether there may be threads of a processor that no lane uses."""
    return self._on_cpu and self.num_lanes == 1

  def on_device(self):
    """A context in which operations go to the first device."""
    if self.device is None:
      return contextlib.nullcontext()
    return tf.device(self.device)

  def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a graph on the first device."""
    graph = common.function(function)

    def call(*args):
      if replicas.in_strategy():  # They cannot wait inside another graph.
        return function(*args)
      with self.on_device():
        return graph(*args)

    call.graph = graph
    return call

  def compiled_for_steps(
      self, function: Callable[..., Any]
  ) -> Callable[..., Any]:
    """As `compiled`, for a small function that is called at every step.

    TensorFlow takes longer to find the graph for some arguments than such a
    graph takes to run: here it is found by their shapes alone.

    Args:
      function: of arrays and tensors, in nests whose structure never changes.
    """
    compiled, traces = self.compiled(function), {}

    def call(*args):
      if replicas.in_strategy():
        return compiled(*args)
      shapes = tuple((x.shape, x.dtype) for x in tf.nest.flatten(args))
      with self.on_device():
        if shapes not in traces:
          traces[shapes] = compiled.graph.get_concrete_function(*args)
        return traces[shapes](*args)

    return call

  def rows_per_part(
      self, rows: Optional[int], at_least: int = 1
  ) -> Optional[int]:
    """How many of a minibatch's rows go through the networks at a time.

    Args:
      rows: of the minibatch; None if only known when it runs.
      at_least: rows that a part should have where its size is not set and the
        lanes leave it as many.

    Returns:
      The most that a part may have; None: all.
    """
    size = self._config.micro_batch_size
    if size is None and self._on_cpu:
      size = max(_CPU_MICRO_BATCH, at_least)
    if rows is None:
      return size
    share = -(-rows // self.num_lanes)
    return share if size is None else min(size, share)

  def replicas(self, batch) -> tuple:
    """Copies a nest of tensors to the device of every lane.

    Args:
      batch: nest of tensors on the first device.

    Returns:
      One nest per lane; lanes of one device share theirs.
    """
    at = {self.device: batch}
    for device in self._devices:
      if device not in at:
        with tf.device(device):
          at[device] = tf.nest.map_structure(tf.identity, batch)
    return tuple(at[device] for device in self._devices)

  def accumulate(self, loss_of, batches: Sequence, parts: int, variables):
    """`micro_batches.accumulate` over the lanes.

    Args:
      loss_of: takes one of `batches`, gives its `micro_batches.LossFunction`.
      batches: of `replicas`.
      parts: how many parts the loss functions can compute.
      variables: what to differentiate with respect to.

    Returns:
      `(gradients, {name: scalar})`.
    """
    losses = {id(batch): loss_of(batch) for batch in batches}
    return micro_batches.accumulate(
        [losses[id(batch)] for batch in batches], parts, variables,
        self._devices, self._config.jit_compile,
    )
