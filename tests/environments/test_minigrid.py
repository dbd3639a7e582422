"""MiniGrid as one-hot images, with layouts that stay."""

import collections
import copy

import gymnasium
import numpy as np
import pytest

from rnd_agent.environments import errors
from rnd_agent.environments import suites
from rnd_agent.environments.vector.sharded import ShardedPyEnvironment

pytest.importorskip('minigrid', reason='minigrid is not installed')
from minigrid.core import constants  # noqa: E402

from rnd_agent.environments.games import minigrid_suite  # noqa: E402

Config = suites.EnvironmentConfig
ROOMS = 'MiniGrid-MultiRoom-N6-v0'
LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE = range(6)
KINDS, COLORS, DOORS, DIRECTIONS = (
    slice(0, 11), slice(11, 17), slice(17, 20), slice(20, 24)
)  # fmt: skip


def read_back(cell):
  """Kind, colour and state of a cell's planes; None where none is set."""
  return tuple(
      int(part.argmax()) if part.any() else None
      for part in (cell[KINDS], cell[COLORS], cell[DOORS])
  )


@pytest.mark.parametrize('name', [ROOMS, f'minigrid:{ROOMS}'])
def test_names(name):
  env = suites.make(name)
  assert isinstance(env.unwrapped, minigrid_suite.minigrid.minigrid_env
                    .MiniGridEnv)
  assert env.observation_space == gymnasium.spaces.Box(
      0, 1, (7, 7, 24), np.float32
  )
  assert env.action_space == gymnasium.spaces.Discrete(7)
  assert env.render_mode == 'rgb_array' and env.render().ndim == 3


def test_planes_hold_what_the_numbers_of_minigrid_say():
  env = suites.make(ROOMS, seed=4)
  observation, _ = env.reset()
  doors = 0
  for t in range(60):
    raw = env.unwrapped.gen_obs()
    np.testing.assert_array_equal(np.unique(observation), [0, 1])
    for x, y in np.ndindex(7, 7):
      kind, color, state = raw['image'][x, y]
      nothing = kind in (0, 1)  # Unseen and empty cells have no colour.
      is_door = kind == constants.OBJECT_TO_IDX['door']
      doors += is_door
      assert read_back(observation[x, y]) == (
          kind, None if nothing else color, state if is_door else None
      )
    direction = np.eye(4)[raw['direction']]
    assert (observation[..., DIRECTIONS] == direction).all()
    observation = env.step([LEFT, FORWARD, TOGGLE, FORWARD][t * t % 4])[0]
  assert doors


def test_full_view_is_the_whole_grid_with_the_agent():
  env = suites.make('MiniGrid-DoorKey-5x5-v0', Config(full_view=True), seed=2)
  observation, info = env.reset()
  grid = env.unwrapped
  assert observation.shape == (5, 5, 24)
  x, y = grid.agent_pos
  assert info['place'] == y * 5 + x
  agent = constants.OBJECT_TO_IDX['agent']
  assert read_back(observation[x, y])[0] == agent
  assert observation[x, y, DIRECTIONS].tolist() == [
      float(d == grid.agent_dir) for d in range(4)
  ]
  assert observation[..., DIRECTIONS].sum() == 1
  raw = grid.grid.encode()
  for i, j in np.ndindex(5, 5):
    if (i, j) != (x, y):
      assert read_back(observation[i, j])[0] == raw[i, j, 0]


def test_what_is_carried_can_be_seen_in_both_views():
  key = constants.OBJECT_TO_IDX['key']
  for full_view in (False, True):
    env = suites.make('MiniGrid-DoorKey-5x5-v0', Config(full_view=full_view))
    env.reset()
    grid = env.unwrapped
    grid.carrying = grid.grid.get(*next(
        (i, j) for i, j in np.ndindex(5, 5)
        if grid.grid.get(i, j) and grid.grid.get(i, j).type == 'key'
    ))
    observation = env.step(LEFT)[0]
    x, y = grid.agent_pos if full_view else (3, 6)
    assert observation[x, y, key] == 1
    assert observation[..., :24].max() == 1


def test_places_are_the_cells():
  env = suites.make(ROOMS, seed=0)
  _, info = env.reset()
  cells = {info['place']}
  while True:
    _, _, terminated, truncated, info = env.step(env.action_space.sample())
    x, y = env.unwrapped.agent_pos
    assert info['place'] == y * 25 + x
    cells.add(info['place'])
    if terminated or truncated:
      break
  assert truncated and info['episode']['places'] == tuple(sorted(cells))


def layouts(config, seeds):
  found = []
  for seed in seeds:
    env = suites.make(ROOMS, config, seed=seed)
    for _ in range(2):
      env.reset()
      grid = env.unwrapped
      found.append(
          (grid.grid.encode().tobytes(), tuple(grid.agent_pos), grid.agent_dir)
      )
  return found


def test_a_layout_stays_if_its_seed_is_given():
  fixed = layouts(Config(layout_seed=1), seeds=(5, 6))
  assert len(set(fixed)) == 1
  assert fixed[0] != layouts(Config(layout_seed=2), seeds=(5,))[0]
  assert len(set(layouts(Config(), seeds=(5, 6)))) == 4


def test_a_fixed_layout_leaves_sticky_actions_random():
  config = Config(layout_seed=1, sticky_action_probability=0.5)
  walks = []
  for seed in (1, 2, 1):
    env = suites.make(ROOMS, config, seed=seed)
    env.reset()
    walks.append([env.step(t % 3)[4]['place'] for t in range(60)])
  assert walks[0] == walks[2] != walks[1]


def shortest_way(config):
  """Steps of a breadth-first search to the goal, by moving and opening."""
  env = suites.make(ROOMS, config).unwrapped
  env.max_steps = 10**6
  waiting, seen = collections.deque([(env, 0)]), set()
  while waiting:
    env, steps = waiting.popleft()
    for action in (LEFT, RIGHT, FORWARD, TOGGLE):
      after = copy.deepcopy(env)
      if after.step(action)[2]:
        return steps + 1
      state = (
          tuple(after.agent_pos), after.agent_dir, after.grid.encode().tobytes()
      )
      if state not in seen:
        seen.add(state)
        waiting.append((after, steps + 1))


@pytest.mark.slow
def test_the_config_s_layout_can_be_solved_in_its_120_steps():
  assert shortest_way(Config(layout_seed=1)) == 44


def test_mission():
  name = 'MiniGrid-GoToDoor-5x5-v0'  # 'go to the {color} door', six colours.
  env = suites.make(name, Config(encode_mission=True))
  assert env.observation_space.shape == (7, 7, 24 + 6)
  seen = {}
  for seed in range(30):
    observation, _ = env.reset(seed=seed)
    planes = observation[..., 24:]
    assert (planes == planes[0, 0]).all() and planes[0, 0].sum() == 1
    plane = int(planes[0, 0].argmax())
    seen.setdefault(env.unwrapped.mission, set()).add(plane)
  assert len(seen) > 3
  assert all(len(planes) == 1 for planes in seen.values())
  assert len(set.union(*seen.values())) == len(seen)
  assert suites.make(ROOMS, Config(encode_mission=True)).reset()[0].shape == (
      7, 7, 24
  )  # There is only one mission.


def test_missions_that_are_no_choice_of_words():
  with pytest.raises(ValueError, match='encode_mission'):
    suites.make('BabyAI-GoToObj-v0', Config(encode_mission=True))
  assert suites.make('BabyAI-GoToObj-v0').reset()[0].shape == (7, 7, 24)


def test_missing_generator_is_a_missing_package(monkeypatch):
  def lacks(*_, **__):
    raise gymnasium.error.DependencyNotInstalled('run pip install "it"')

  monkeypatch.setattr(minigrid_suite.gymnasium, 'make', lacks)
  with pytest.raises(errors.MissingPackageError, match='pip install "it"'):
    suites.make(ROOMS)


def test_actions_can_be_left_out():
  config = Config(actions=[LEFT, RIGHT, FORWARD, TOGGLE], layout_seed=1)
  env = suites.make(ROOMS, config)
  assert env.action_space == gymnasium.spaces.Discrete(4)
  full = suites.make(ROOMS, Config(layout_seed=1))
  env.reset(), full.reset()
  for t in range(100):
    action = t * t % 4
    ours, theirs = env.step(action), full.step(config.actions[action])
    np.testing.assert_array_equal(ours[0], theirs[0])


def test_many_of_them():
  with ShardedPyEnvironment(
      ROOMS, 4, 2, config=Config(layout_seed=3)
  ) as env:
    start = env.reset().observation
    assert start.shape == (4, 7, 7, 24) and (start == start[0]).all()
    assert len(set(env.places)) == 1
    step = env.step(np.array([LEFT, RIGHT, FORWARD, TOGGLE]))
    assert not (step.observation == step.observation[0]).all()
