"""Environments that tests give to worker processes by import path."""

import os
import random
import time

import gymnasium
import numpy as np


class Walk(gymnasium.Env):
  """Ends at random, sometimes by truncation, as its seed decides."""

  action_space = gymnasium.spaces.Discrete(3)
  observation_space = gymnasium.spaces.Box(-1e6, 1e6, (2,), np.float32)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._time = 0
    return self._observation(), {'place': 7}

  def step(self, action):
    self._time += 1
    reward = float(self.np_random.normal()) + 10 * int(action)
    luck = self.np_random.random()
    info = {'place': self._time}
    return self._observation(), reward, luck < 0.1, luck > 0.9, info

  def _observation(self):
    return np.array([self._time, self.np_random.random()], np.float32)


def walk(seed):
  return Walk()


class Script(gymnasium.Env):
  """Ends after three steps: terminated for even seeds, truncated for odd."""

  action_space = gymnasium.spaces.Discrete(2)
  observation_space = gymnasium.spaces.Box(0, 9, (1,), np.float32)

  def __init__(self, seed):
    self._even = seed % 2 == 0

  def reset(self, *, seed=None, options=None):
    self._time = 0
    return np.zeros(1, np.float32), {}

  def step(self, action):
    self._time += 1
    end = self._time == 3
    observation = np.full(1, self._time, np.float32)
    return observation, 1.5, end and self._even, end and not self._even, {}


def script(seed):
  return Script(seed)


class Returns(gymnasium.Env):
  """Counts in one buffer that it returns every time; otherwise as told.

  `what` maps a step to what is returned there instead: `reward`, `observation`
  or `info`.
  """

  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, shape=(2,), dtype=np.float32, what=None, length=12):
    self.observation_space = gymnasium.spaces.Box(0, 100, shape, dtype)
    self._buffer = np.zeros(shape, dtype)
    self._info = {'place': 0}
    self._what = what or {}
    self._length = length

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._time = 0
    self._buffer[...] = 0
    self._info['place'] = 0
    return self._buffer, self._info

  def step(self, action):
    self._time += 1
    self._buffer[...] = self._time
    self._info['place'] = self._time
    told = self._what.get(self._time, {})
    return (
        told.get('observation', self._buffer), told.get('reward', 1.0),
        self._time == self._length, False, told.get('info', self._info),
    )


def returns(shape, dtype, what, seed):
  return Returns(shape, dtype, what)


class Saboteur(Walk):
  """Action 1 raises, action 2 sleeps, for those whose seed says so."""

  def __init__(self, is_saboteur):
    self._is_saboteur = is_saboteur

  def step(self, action):
    if self._is_saboteur and action == 1:
      raise ZeroDivisionError('the bridge is out')
    if self._is_saboteur and action == 2:
      time.sleep(600)
    return super().step(0)


def saboteur(seed):
  return Saboteur(True)


def saboteur_of(culprit, seed):
  return Saboteur(seed == culprit)


class Undrawable(Walk):
  """Has pictures, but something is missing to draw them."""

  render_mode = 'rgb_array'

  def render(self):
    raise gymnasium.error.DependencyNotInstalled('pygame is not installed')


def undrawable(seed):
  return Undrawable()


class FatalToDraw(Undrawable):
  """Drawing ends the process."""

  def render(self):
    os._exit(3)


def fatal_to_draw(seed):
  return FatalToDraw()


class Endless(Walk):
  """Steps take 5 ms, and no episode ends."""

  def step(self, action):
    time.sleep(0.005)
    observation, reward, _, _, info = super().step(action)
    return observation, reward, False, False, info


def endless(seed):
  return Endless()


def dies_at_first(folder, times, seed):
  """Ends its process as the environment is made, some times."""
  died = len(os.listdir(folder))
  if died < times:
    open(os.path.join(folder, f'{died}'), 'w').close()
    os._exit(3)
  return Walk()


def broken(seed):
  raise OSError('no such cartridge')


def dies(seed):
  os._exit(3)


class Echo(gymnasium.Env):
  """Observes the last action; the type it came in is the reward."""

  def __init__(self, action_space):
    self.action_space = action_space
    self.observation_space = gymnasium.spaces.Box(
        -10, 10, action_space.shape or (1,), np.float64
    )

  def reset(self, *, seed=None, options=None):
    return np.zeros(self.observation_space.shape), {}

  def step(self, action):
    value = np.reshape(action, self.observation_space.shape)
    exact = isinstance(action, int) or action.dtype == self.action_space.dtype
    return value.astype(np.float64), float(exact), False, False, {}


def echo_discrete(seed):
  return Echo(gymnasium.spaces.Discrete(4, start=-1))


def echo_box(seed):
  return Echo(gymnasium.spaces.Box(-2.0, 3.0, (2,), np.float64))


def echo_multi_discrete(seed):
  return Echo(gymnasium.spaces.MultiDiscrete([2, 5]))


class Misfit(Walk):
  """Observations are not what the space says."""

  def _observation(self):
    return np.zeros(1, np.float32)


def misfit(seed):
  return Misfit()


class Unsupported(Walk):
  observation_space = gymnasium.spaces.Text(4)


def unsupported(seed):
  return Unsupported()


def mixed(seed):
  return echo_box(seed) if seed % 2 else Walk()


class Unrepeatable(gymnasium.Env):
  """Draws on random numbers that are not its own."""

  action_space = gymnasium.spaces.Discrete(2)
  observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float64)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return np.array([0.0, random.random()]), {}

  def step(self, action):
    return np.array([1.0, random.random()]), 1.0, False, False, {}


def unrepeatable(seed):
  return Unrepeatable()


class Pictures(gymnasium.Env):
  """Distinct RGB images; records actions; ends after `length` frames."""

  action_space = gymnasium.spaces.Discrete(5)
  observation_space = gymnasium.spaces.Box(0, 255, (20, 30, 3), np.uint8)

  def __init__(self, length=10**9):
    self._length = length
    self.frames = []
    self.actions = []

  def reset(self, *, seed=None, options=None):
    self._random = np.random.default_rng(seed)
    self.frames = []
    self.actions = []
    return self._frame(), {}

  def step(self, action):
    self.actions.append(action)
    frame = self._frame()
    ended = len(self.actions) >= self._length
    return frame, 2.5, ended, False, {'place': len(self.actions)}

  def _frame(self):
    frame = self._random.integers(0, 256, (20, 30, 3), np.uint8)
    self.frames.append(frame)
    return frame


class Fragile(Walk):
  """Raises in the 12th step of an episode, until it has done so some times."""

  def __init__(self, folder, failures):
    self._folder = folder
    self._failures = failures

  def step(self, action):
    failed = os.listdir(self._folder)
    if self._time == 11 and len(failed) < self._failures:
      open(os.path.join(self._folder, f'{len(failed)}'), 'w').close()
      raise OSError('the cable is loose')
    return super().step(action)


def fragile(folder, failures, seed):
  return Fragile(folder, failures)


# For configs: 'gymnasium:toy_environments:Unrepeatable-v0'.
for _class in (Unrepeatable, Undrawable, FatalToDraw):
  gymnasium.register(f'{_class.__name__}-v0', _class)
gymnasium.register(
    'NotFinite-v0', lambda: Returns(what={10: {'reward': np.nan}})
)


CAMERA = gymnasium.spaces.Box(0, 255, (12, 10, 3), np.uint8)


class Robot(gymnasium.Env):
  """A camera, an arm and a gear; returns the same arrays every time."""

  LENGTH = 5  # steps

  action_space = gymnasium.spaces.Discrete(3)
  observation_space = gymnasium.spaces.Dict(
      camera=CAMERA, arm=gymnasium.spaces.Box(-1, 1, (2,)),
      gear=gymnasium.spaces.Discrete(4),
  )

  def __init__(self):
    self._camera = np.zeros(CAMERA.shape, np.uint8)
    self._arm = np.zeros(2, np.float32)
    self.given = []

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._time = 0
    return self._observation(), {}

  def step(self, action):
    self._time += 1
    cut = self._time == self.LENGTH
    return self._observation(), float(action), False, cut, {}

  def _observation(self):
    self._camera[...] = self.np_random.integers(256, size=CAMERA.shape)
    self._arm[...] = self.np_random.uniform(-1, 1, 2)
    gear = int(self.np_random.integers(4))
    self.given.append(
        (self._camera.copy(), np.concatenate([self._arm, np.eye(4)[gear]]))
    )
    return {'camera': self._camera, 'arm': self._arm, 'gear': gear}


def robot(seed):
  return Robot()


gymnasium.register('Robot-v0', Robot)
