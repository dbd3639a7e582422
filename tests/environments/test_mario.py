"""Super Mario: frames, flag, how far he got."""

import numpy as np
import pytest

from rnd_agent.environments import states
from rnd_agent.environments import suites

pytest.importorskip(
    'gym_super_mario_bros', reason='gym-super-mario-bros is not installed'
)
from gym_super_mario_bros import smb_env  # noqa: E402
from gym_super_mario_bros import smb_random_stages_env  # noqa: E402

from rnd_agent.environments.games import mario_suite  # noqa: E402

Config = suites.EnvironmentConfig
STAGE = 'SuperMarioBros-1-1-v0'
NOTHING, RIGHT_AND_B, RIGHT_A_B = 0, 3, 4


@pytest.mark.parametrize('name', [STAGE, f'mario:{STAGE}'])
def test_names_and_defaults(name):
  env = suites.make(name)
  assert env.reset()[0].shape == (84, 84, 4)
  assert env.action_space.n == 7
  assert isinstance(env.unwrapped, mario_suite.SuperMario)
  env.close()


def test_frames_are_kept():
  game = mario_suite.SuperMario(STAGE)
  first, _ = game.reset(seed=0)
  kept = first.copy()
  assert first.shape == (240, 256, 3) and game.observation_space.contains(first)
  frames = [game.step(RIGHT_AND_B)[0] for _ in range(30)]
  np.testing.assert_array_equal(first, kept)
  assert (frames[0] != frames[-1]).any()
  np.testing.assert_array_equal(game.render(), frames[-1])
  game.close()


def test_running_right_gets_far_and_dies():
  env = suites.make(STAGE)
  env.reset()
  furthest = 0
  for t in range(1000):
    info = env.step(RIGHT_A_B if t % 10 < 8 else RIGHT_AND_B)[4]
    furthest = max(furthest, info['x'])
    if 'episode' in info:
      break
  assert info['episode']['furthest_x'] == furthest > 600
  assert info['episode']['episode_return'] > 300
  assert not info['flag_get']
  env.close()


class Later:
  """A stage that is loaded when it is played: 32 take their time."""

  def __init__(self, **settings):
    self._settings = settings

  def __getattr__(self, name):
    if name == '_stage':
      self._stage = smb_env.SuperMarioBrosEnv(**self._settings)
      return self._stage
    return getattr(self._stage, name)

  def close(self):
    if '_stage' in vars(self):
      self._stage.close()


def test_random_stages_come_back(monkeypatch):
  """The saved state has what the stage was drawn with."""
  monkeypatch.setattr(smb_random_stages_env, 'SuperMarioBrosEnv', Later)
  config = Config(frame_size=12)
  name = 'SuperMarioBrosRandomStages-v0'
  env = suites.make(name, config, seed=3)
  for _ in range(3):  # Episodes begin without a seed.
    env.reset()
  for _ in range(5):
    env.step(RIGHT_AND_B)
  saved = states.decode(states.encode(states.get_state(env)))
  seen = env.step(RIGHT_A_B)[0]
  other = suites.make(name, config, seed=4)
  states.set_state(other, saved)
  np.testing.assert_array_equal(other.step(RIGHT_A_B)[0], seen)
  # And the stages after it.
  np.testing.assert_array_equal(other.reset()[0], env.reset()[0])
  env.close()
  other.close()


class Script:
  """What a joypad gives: the flag is up from the third step on."""

  def __init__(self):
    self.time = 0

  def step(self, action):
    self.time += 1
    info = {'flag_get': self.time >= 3, 'x_pos': 50 - self.time}
    return np.zeros((240, 256, 3), np.uint8), -2.0, False, info


@pytest.mark.parametrize('only_flag, rewards', [
    (True, [0, 0, 1, 0]), (False, [-2, -2, -2, -2]),
])
def test_reward_at_the_flag_comes_once(only_flag, rewards):
  game = mario_suite.SuperMario(STAGE, only_flag)
  game.reset(seed=0)
  game._joypad, emulator = Script(), game._joypad
  steps = [game.step(NOTHING) for _ in range(4)]
  assert [step[1] for step in steps] == rewards
  assert [step[4]['x'] for step in steps] == [49, 48, 47, 46]
  emulator.close()


def test_flag_is_an_option_of_mario_alone():
  env = suites.make(STAGE, Config(reward_at_flag_only=True))
  env.reset()
  assert all(env.step(RIGHT_A_B)[1] == 0 for _ in range(20))
  env.close()
  with pytest.raises(ValueError, match="for environments 'mario:...'"):
    suites.make('CartPole-v1', Config(reward_at_flag_only=True))
