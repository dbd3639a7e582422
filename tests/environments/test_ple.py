"""The games of the PyGame Learning Environment, where it is installed."""

import numpy as np
import pytest

from rnd_agent.environments import errors
from rnd_agent.environments import suites
from rnd_agent.environments.games import ple_suite
from rnd_agent.environments.vector.sharded import ShardedPyEnvironment

COPTER = 'ple:PixelCopter'
GYM_PLE = [
    'Catcher', 'FlappyBird', 'MonsterKong', 'PixelCopter', 'PuckWorld',
    'RaycastMaze', 'Snake', 'WaterWorld',
]  # fmt: skip


@pytest.mark.parametrize(
    'name', ['PixelCopter', 'Pixelcopter', 'pixelcopter', 'PIXELCOPTER']
)
def test_any_spelling(name):
  assert ple_suite.find_game(name) == 'PixelCopter'


def test_all_ids_of_gym_ple_are_known():
  assert set(GYM_PLE) <= set(ple_suite.GAMES)
  with pytest.raises(errors.UnknownEnvironmentError, match='FlappyBird'):
    ple_suite.find_game('FlapyBird')


@pytest.fixture(name='installed')
def _installed():
  pytest.importorskip(
      'ple', reason='ple is not installed; it is not on PyPI, see README.md'
  )


def play(env, steps, seed):
  env.reset(seed=seed)
  chooser = np.random.default_rng(0)
  frames, ends = [], 0
  for _ in range(steps):
    action = int(chooser.integers(env.action_space.n))
    observation, reward, terminated, truncated, _ = env.step(action)
    assert isinstance(reward, float) and not truncated
    frames.append(observation)
    if terminated:
      frames.append(env.reset()[0])
      ends += 1
  return np.stack(frames[:steps]), ends


@pytest.mark.usefixtures('installed')
@pytest.mark.parametrize('game', ple_suite.GAMES)
def test_a_seed_repeats_and_another_differs(game):
  try:
    games = [ple_suite.PleGame(game) for _ in range(3)]
  except errors.MissingPackageError as error:
    pytest.skip(str(error))
  first, again, other = (
      play(env, 100, seed)[0] for env, seed in zip(games, (3, 3, 4))
  )
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()
  assert games[0].observation_space.contains(first[0])
  assert len({frame.tobytes() for frame in first}) > 5


@pytest.mark.usefixtures('installed')
@pytest.mark.parametrize('game', ['FlappyBird', 'PixelCopter', 'WaterWorld'])
def test_a_seed_repeats_whatever_was_played_before(game):
  try:
    used, new = ple_suite.PleGame(game), ple_suite.PleGame(game)
  except errors.MissingPackageError as error:
    pytest.skip(str(error))
  play(used, 40, 5)
  again, first = (play(env, 60, 3)[0] for env in (used, new))
  np.testing.assert_array_equal(again, first)


@pytest.mark.usefixtures('installed')
def test_games_in_one_process_do_not_draw_on_each_other():
  alone, _ = play(ple_suite.PleGame('PixelCopter'), 60, 1)
  env, other = (ple_suite.PleGame('PixelCopter') for _ in range(2))
  env.reset(seed=1)
  other.reset(seed=2)
  chooser = np.random.default_rng(0)
  frames = []
  for t in range(60):
    action = int(chooser.integers(2))
    observation, _, terminated, _, _ = env.step(action)
    frames.append(observation)
    if terminated:
      frames.append(env.reset()[0])
    if other.step(t % 2)[2]:
      other.reset()
    np.testing.assert_array_equal(env.render(), frames[-1])
  np.testing.assert_array_equal(np.stack(frames[:60]), alone)


@pytest.mark.usefixtures('installed')
def test_the_screen_lies_as_it_is_seen():
  env = ple_suite.PleGame('Catcher')
  assert env.observation_space.shape == (64, 64, 3)
  observation, _ = env.reset(seed=0)
  paddle = observation[48:].sum(-1) > 600  # White, flat, below.
  assert paddle.any(0).sum() > 2 * paddle.any(1).sum() > 0
  for _ in range(20):
    fruit = env.step(0)[0][:48].astype(int)
  assert (fruit[..., 0] - fruit[..., 2]).max() > 100  # Red.


@pytest.mark.usefixtures('installed')
def test_the_first_frame_is_that_of_the_new_game():
  env = ple_suite.PleGame('PixelCopter')
  first, _ = env.reset(seed=7)
  while not env.step(1)[2]:
    pass
  np.testing.assert_array_equal(env.reset(seed=7)[0], first)


@pytest.mark.usefixtures('installed')
def test_a_crash_terminates_and_costs():
  env = suites.make(COPTER)
  assert env.reset()[0].shape == (84, 84, 4)
  assert env.action_space.n == 2
  while True:
    _, reward, terminated, _, info = env.step(0)  # Falls.
    if terminated:
      break
  assert reward == -5.0 and info['episode']['length'] < 40


@pytest.mark.usefixtures('installed')
def test_many_of_them(capfd):
  with ShardedPyEnvironment(COPTER, 4, 2) as env:
    start = env.reset().observation
    assert len({o.tobytes() for o in start}) == 4
    for t in range(20):
      step = env.step(np.full(4, t % 2))
    assert step.observation.any()
  captured = capfd.readouterr()
  assert 'doom' not in captured.out + captured.err
