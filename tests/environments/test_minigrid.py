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
from minigrid import minigrid_env  # noqa: E402
from minigrid.core import constants  # noqa: E402
from minigrid.core import world_object  # noqa: E402

from rnd_agent.environments.games import minigrid_suite  # noqa: E402
from rnd_agent.environments.games import minigrid_view  # noqa: E402

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


def compared(env, steps, seed=0):
  """Steps at random; each observation as MiniGrid computes it, and ours."""
  random = np.random.default_rng(seed)
  env.reset(seed=seed)
  for _ in range(steps):
    _, _, terminated, truncated, _ = env.step(int(random.integers(7)))
    if terminated or truncated:
      env.reset()
    yield minigrid_env.MiniGridEnv.gen_obs(env), env.gen_obs()


def carries(seen):
  """Whether something is in the agent's own cell, as what it carries is."""
  return seen['image'][3, 6, 0] != constants.OBJECT_TO_IDX['empty']


@pytest.mark.parametrize('name', [
    'DoorKey-8x8', 'KeyCorridorS3R3', 'ObstructedMaze-2Dlh', 'LavaCrossingS9N2',
    'MultiRoom-N6', 'BlockedUnlockPickup', 'MemoryS11',
])
def test_the_view_is_minigrid_s_own(name):
  env = gymnasium.make(f'MiniGrid-{name}-v0', disable_env_checker=True)
  env = env.unwrapped
  minigrid_view.speed_up(env)
  assert 'gen_obs' in vars(env)
  directions, hidden = set(), 0
  for theirs, ours in compared(env, 400):
    assert set(ours) == set(theirs)
    np.testing.assert_array_equal(ours['image'], theirs['image'])
    assert ours['image'].dtype == theirs['image'].dtype
    assert ours['image'].flags.writeable
    assert ours['direction'] == theirs['direction']
    assert ours['mission'] == theirs['mission']
    directions.add(ours['direction'])
    hidden += (ours['image'][..., 0] == 0).any()
  assert directions == {0, 1, 2, 3} and hidden


@pytest.mark.parametrize('size', [3, 5, 9])
@pytest.mark.parametrize('through', [False, True])
def test_the_view_of_another_size_or_through_walls(size, through):
  env = gymnasium.make('MiniGrid-DoorKey-6x6-v0', disable_env_checker=True)
  env = env.unwrapped
  env.agent_view_size, env.see_through_walls = size, through
  minigrid_view.speed_up(env)
  for theirs, ours in compared(env, 200):
    assert ours['image'].shape == (size, size, 3)
    np.testing.assert_array_equal(ours['image'], theirs['image'])


def test_the_view_shows_what_is_carried_and_what_blocks_sight():
  env = gymnasium.make('MiniGrid-KeyCorridorS3R3-v0', disable_env_checker=True)
  env = env.unwrapped
  minigrid_view.speed_up(env)
  assert all(carries(seen) for seen in everywhere(env, world_object.Ball()))
  assert not any(carries(seen) for seen in everywhere(env, None))


def everywhere(env, carrying):
  """Our view from every empty cell and in every direction, checked."""
  env.reset(seed=0)
  for x, y in np.ndindex(env.width, env.height):
    if env.grid.get(x, y) is None:
      for direction in range(4):
        env.agent_pos, env.agent_dir = (x, y), direction
        env.carrying = carrying
        ours, theirs = env.gen_obs(), minigrid_env.MiniGridEnv.gen_obs(env)
        np.testing.assert_array_equal(ours['image'], theirs['image'])
        yield ours


def test_an_environment_that_sees_in_its_own_way_goes_on_so():
  class Blind(minigrid_env.MiniGridEnv):

    def gen_obs_grid(self, agent_view_size=None):
      grid, seen = super().gen_obs_grid(agent_view_size)
      return grid, np.zeros_like(seen)

    def _gen_grid(self, width, height):
      self.grid = minigrid_suite.minigrid.core.grid.Grid(width, height)
      self.agent_pos, self.agent_dir, self.mission = (1, 1), 0, 'see'

  env = Blind(
      mission_space=minigrid_suite.mission_lib.MissionSpace(lambda: 'see'),
      grid_size=5, max_steps=9,
  )
  minigrid_view.speed_up(env)
  assert not env.reset()[0]['image'].any()


@pytest.mark.parametrize('rooms, size', [(7, 4), (10, 4), (10, 10)])
def test_multi_rooms_of_the_literature(rooms, size):
  env = suites.make(f'minigrid:MiniGrid-MultiRoom-N{rooms}-S{size}-v0')
  assert len(env.unwrapped.rooms) == rooms
  assert env.unwrapped.max_steps == 20 * rooms
  assert all(max(room.size) <= size for room in env.unwrapped.rooms)


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
    facts = env.get_wrapper_attr('facts')()
    assert facts == {
        'x': grid.agent_pos[0], 'y': grid.agent_pos[1],
        'direction': grid.agent_dir, 'carried': key,
    }
    grid.carrying = None
    assert env.get_wrapper_attr('facts')()['carried'] == 0


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
