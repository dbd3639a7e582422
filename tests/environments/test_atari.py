"""Atari preprocessing against a straightforward re-computation."""

import collections

import ale_py
from ale_py import roms
import cv2
import numpy as np
import pytest

from rnd_agent.environments import errors
from rnd_agent.environments import states
from rnd_agent.environments import suites
from rnd_agent.environments.games import atari

SEED = 41
GAME = 'atari:MontezumaRevenge'


class Reference:
  """The paper's preprocessing, frame by frame on an emulator of its own."""

  def __init__(self, rom, stream):
    self.ale = ale_py.ALEInterface()
    self.ale.setFloat('repeat_action_probability', 0.0)
    self.ale.loadROM(roms.get_rom_path(rom))
    self.actions = self.ale.getMinimalActionSet()
    self.stream = stream
    self.images = collections.deque(maxlen=4)

  def reset(self):
    self.ale.reset_game()
    self.previous = 0
    for _ in range(4):
      self.images.append(self.image(self.ale.getScreenRGB()))
    return np.stack(self.images, axis=-1)

  def step(self, action):
    frames, score = [], 0
    for _ in range(4):
      if not self.stream.random() < 0.25:
        self.previous = action
      score += self.ale.act(self.actions[self.previous])
      frames.append(self.ale.getScreenRGB().copy())
      if self.ale.game_over():
        break
    last = frames[-2:] if len(frames) == 4 else frames[-1:]
    self.images.append(self.image(np.max(last, axis=0)))
    return np.stack(self.images, axis=-1), score, self.ale.game_over()

  @staticmethod
  def image(rgb):
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ('name', 'rom', 'steps'),
    [
        (GAME, 'montezuma_revenge', 900),
        ('atari:SpaceInvaders', 'space_invaders', 900),
    ],
)
def test_observations_rewards_and_ends(name, rom, steps):
  env = suites.make(name, seed=SEED)
  stream = np.random.default_rng(np.random.SeedSequence(SEED, spawn_key=(1,)))
  reference = Reference(rom, stream)
  chooser = np.random.default_rng(0)
  np.testing.assert_array_equal(env.reset()[0], reference.reset())
  score, ends, pictures = 0, 0, set()
  for _ in range(steps):
    action = int(chooser.integers(env.action_space.n))
    observation, reward, terminated, truncated, info = env.step(action)
    expected, points, over = reference.step(action)
    np.testing.assert_array_equal(observation, expected)
    assert (reward, terminated) == (np.clip(points, -1, 1), over)
    assert not truncated
    score += points
    pictures.add(observation[..., -1].tobytes())
    if over:
      assert info['episode']['episode_return'] == score
      ends += 1
      score = 0
      np.testing.assert_array_equal(env.reset()[0], reference.reset())
  assert ends >= 1
  assert len(pictures) > steps / 4  # The game moved.
  assert observation.shape == (84, 84, 4) and observation.dtype == np.uint8


def test_sticky_actions_matter():
  sticky = suites.make(GAME, seed=1)
  exact = suites.make(
      GAME, suites.EnvironmentConfig(sticky_action_probability=0.0), seed=1
  )
  for env in (sticky, exact):
    env.reset()
  actions = np.random.default_rng(0).integers(0, 18, 60)
  differ = [
      (sticky.step(int(a))[0] != exact.step(int(a))[0]).any() for a in actions
  ]
  assert any(differ)


def test_score_is_recorded_before_clipping():
  config = suites.EnvironmentConfig(max_episode_steps=150)
  env = suites.make('atari:SpaceInvaders', config, seed=SEED)
  env.reset()
  clipped = 0.0
  chooser = np.random.default_rng(1)
  for _ in range(150):
    _, reward, terminated, _, info = env.step(int(chooser.integers(6)))
    clipped += reward
    if terminated:
      break
  episode = info['episode']
  assert episode['episode_return'] >= 5 * clipped > 0  # Worth 5 to 30 each.
  assert episode['length'] <= 150
  assert episode['places'] == ()


@pytest.mark.parametrize(
    ('is_termination', 'expected'),
    [(None, (True, False)), (True, (True, False)), (False, (False, True))],
)
def test_limit_of_4500_steps(is_termination, expected):
  # A limit of agent steps, whatever the frames: one frame a step is quicker.
  config = suites.EnvironmentConfig(
      frame_skip=1,
      frame_size=8,
      stacked_frames=1,
      time_limit_is_termination=is_termination,
  )
  env = suites.make('atari:MontezumaRevenge', config)
  env.reset()
  steps = 0
  terminated = truncated = False
  while not (terminated or truncated):
    _, _, terminated, truncated, info = env.step(0)
    steps += 1
  assert steps == 4500
  assert (terminated, truncated) == expected
  assert info['episode']['length'] == 4500
  assert info['episode']['places'] == (1,)


def test_facts():
  env = suites.make('atari:MontezumaRevenge', seed=0)
  env.reset()
  facts = env.get_wrapper_attr('facts')()
  # The figure starts in the middle of the room, with nothing.
  assert facts == {'lives': 6, 'x': 77, 'y': 235, 'carried': 0}
  for _ in range(40):
    env.step(3)  # To the right, into the abyss.
  later = env.get_wrapper_attr('facts')()
  assert later['x'] > 77 and later['lives'] <= 6
  assert suites.make('atari:Pong').get_wrapper_attr('facts')() == {'lives': 0}


def test_rooms():
  env = suites.make(GAME, seed=3)
  _, info = env.reset()
  assert info['place'] == 1  # The game starts in room 1.
  assert info['lives'] == 5 or info['lives'] == 6
  game = env.unwrapped
  game._ale.setRAM(3, 5)
  assert game._observe()[1]['place'] == 5
  assert suites.make('atari:Pitfall').reset()[1]['place'] >= 0
  assert 'place' not in suites.make('atari:Pong').reset()[1]


def test_action_sets():
  assert atari.AtariGame('Pong').action_space.n == 6
  assert atari.AtariGame('Pong', full_action_space=True).action_space.n == 18
  config = suites.EnvironmentConfig(full_action_space=True)
  assert suites.make('atari:Pong', config).action_space.n == 18
  assert suites.make(GAME).action_space.n == 18


@pytest.mark.parametrize(
    'game', ['montezuma_revenge', 'MontezumaRevenge', 'montezumarevenge']
)
def test_names_of_games(game):
  assert atari.find_rom(game) == 'montezuma_revenge'


def test_unknown_game_lists_the_nearest():
  with pytest.raises(errors.UnknownEnvironmentError, match='MontezumaRevenge'):
    atari.AtariGame('MontezumasRevenge')


def test_one_step_is_one_frame():
  game = atari.AtariGame('MontezumaRevenge')
  ram, _ = game.reset(seed=0)
  assert game.observation_space.contains(ram)
  before = game._ale.getEpisodeFrameNumber()
  for _ in range(7):
    game.step(0)
  assert game._ale.getEpisodeFrameNumber() == before + 7
  assert game.render().shape == (210, 160, 3)
  assert game._ale.getFloat('repeat_action_probability') == 0.0


def test_a_game_is_loaded_once_for_a_seed_that_is_known(monkeypatch):
  loaded = []
  load = atari.AtariGame._load

  def counted(game):
    loaded.append(game._seed)
    return load(game)

  monkeypatch.setattr(atari.AtariGame, '_load', counted)
  env = suites.make(GAME, seed=4)
  assert loaded == [4]
  # A seed begins everything anew from the second reset on.
  first, _ = env.reset(seed=4)
  assert loaded == [4, 4]
  again, _ = suites.make(GAME, seed=5).reset(seed=4)
  assert loaded == [4, 4, 5, 4]
  np.testing.assert_array_equal(first, again)


def test_a_seed_gives_one_game_however_it_is_given():
  games = [
      atari.AtariGame('MontezumaRevenge', seed=6),
      atari.AtariGame('MontezumaRevenge'),
  ]
  states_of = []
  for game in games:
    game.reset(seed=6)
    for _ in range(50):
      game.step(3)
    states_of.append(game.saved_state())
  assert states_of[0] == states_of[1]


def test_a_restored_game_continues_exactly():
  env = suites.make(GAME, seed=7)
  env.reset()
  chooser = np.random.default_rng(2)
  for _ in range(80):
    env.step(int(chooser.integers(18)))
  copy = suites.make(GAME, seed=8)
  copy.reset()
  states.set_state(copy, states.decode(states.encode(states.get_state(env))))
  for _ in range(200):
    action = int(chooser.integers(18))
    expected, actual = env.step(action), copy.step(action)
    np.testing.assert_array_equal(expected[0], actual[0])
    assert expected[1:] == actual[1:]
    if expected[2]:
      np.testing.assert_array_equal(env.reset()[0], copy.reset()[0])


def test_the_emulator_is_silent(capfd):
  suites.make(GAME).reset()
  captured = capfd.readouterr()
  assert captured.out == '' and captured.err == ''
