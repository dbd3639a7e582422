"""What a bonus looks at: a part of the observation, its newest frames."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

import tensorflow as tf

# Channels of a colour image.
_RGB = 3

# The name of a part, or a function of an observation `[..., spec]`.
Select = Optional[Union[str, Callable[[Any], tf.Tensor]]]


def newest_frame(observation: tf.Tensor) -> tf.Tensor:
  """A stack's newest frame.

  Args:
    observation: `[..., height, width, stack]`, the newest frame last.

  Returns:
    `[..., height, width, 1]` (paper, table 4: one frame for the bonus).
  """
  return observation[..., -1:]


def default_selection(
    observation_spec: tf.TensorSpec,
    stacked_frames: int = 1,
    frame_channels: Optional[int] = None,
    owner: str = 'RandomNetworkDistillation',
) -> Callable[[tf.Tensor], tf.Tensor]:
  """The newest frames of a stack along the last axis.

  Args:
    observation_spec: of one observation.
    stacked_frames: how many of the newest frames.
    frame_channels: size of one frame along the last axis. None: for uint8
      images 3 if there are 3 (RGB), otherwise 1 (a stack of grey frames), and
      all of anything else. RGB frames in a stack need the 3, three grey frames
      in a stack the 1.
    owner: the bonus, for errors.

  Returns:
    A function of observations `[..., spec]`.

  Raises:
    ValueError: the observation holds fewer frames.
  """
  shape = observation_spec.shape
  if not shape.rank:
    return tf.identity
  if frame_channels is None:
    is_picture = shape.rank == 3 and observation_spec.dtype == tf.uint8
    is_stack = is_picture and shape[-1] != _RGB
    frame_channels = 1 if is_stack else shape[-1]
  if not 1 <= stacked_frames <= shape[-1] // frame_channels:
    raise ValueError(
        f'{owner}.stacked_frames = {stacked_frames}: an observation of shape '
        f'{tuple(shape)} holds {shape[-1] // frame_channels}; choose 1 to that '
        'many, or raise EnvironmentConfig.stacked_frames'
    )
  channels = stacked_frames * frame_channels
  if channels == shape[-1]:
    return tf.identity
  if channels == 1:
    return newest_frame
  return lambda observation: observation[..., -channels:]


def chosen(
    owner: str,
    observation_spec,
    select: Select = None,
    stacked_frames: int = 1,
    frame_channels: Optional[int] = None,
) -> tuple[Callable[[Any], tf.Tensor], tf.TensorSpec]:
  """What a bonus looks at.

  Args:
    owner: the bonus, for errors.
    observation_spec: nest of TensorSpec, what the environment gives.
    select: the name of a part of a dict, or a function; by default the newest
      frames, and of a dict its only image.
    stacked_frames: how many of the newest frames, where there is no function.
    frame_channels: size of one frame, see `default_selection`; None: of a
      dict's part all of it.

  Returns:
    A function of observations `[..., spec]`, and the spec of what it gives.

  Raises:
    ValueError: it is not said which part of a nest, or it holds too few frames.
  """
  pick = _function(
      owner, observation_spec, select, stacked_frames, frame_channels
  )
  sample = pick(tf.nest.map_structure(
      lambda s: tf.zeros([1] + s.shape.as_list(), s.dtype), observation_spec
  ))
  return pick, tf.TensorSpec(sample.shape[1:], sample.dtype, 'selected')


def _function(owner, observation_spec, select, stacked_frames, frame_channels):
  if callable(select):
    return select
  if isinstance(observation_spec, dict):
    name = _name_of_part(owner, observation_spec, select)
    part = observation_spec[name]
    if frame_channels is None and part.shape.rank:
      frame_channels = part.shape[-1]  # Nothing says that it is a stack.
    newest = default_selection(part, stacked_frames, frame_channels, owner)
    return lambda observation: newest(observation[name])
  if select is not None:
    raise ValueError(
        f'{owner}.select = {select!r}: the observation has no named parts; '
        'leave it None.'
    )
  if not isinstance(observation_spec, tf.TensorSpec):
    raise ValueError(
        f'{owner} takes the TensorSpec of one observation, got '
        f'{type(observation_spec).__name__}: convert array specs with '
        'tensor_spec.from_spec, give time_step_spec.observation instead of '
        'time_step_spec, and for nests choose a part with '
        "select=lambda observation: observation['part']."
    )
  return default_selection(
      observation_spec, stacked_frames, frame_channels, owner
  )


def _name_of_part(owner: str, specs: dict, select: Optional[str]) -> str:
  """The part that the bonus looks at: the one selected, or the only image."""
  known = f'its parts are {", ".join(map(repr, sorted(specs)))}'
  if select is not None:
    if not isinstance(specs.get(select), tf.TensorSpec):
      raise ValueError(
          f'{owner}.select = {select!r}: the observation has no such part, '
          f'{known}.'
      )
    return select
  candidates = [
      name for name, spec in specs.items()
      if isinstance(spec, tf.TensorSpec) and (
          spec.shape.rank == 3 or len(specs) == 1
      )
  ]
  if len(candidates) != 1:
    raise ValueError(
        'the observation has several parts: choose the one that the bonus '
        f'looks at with {owner}.select; {known}.'
    )
  return candidates[0]
