"""Saved states: exact where that is possible, said where it is not, safe."""

import base64
import json
import zlib

import gymnasium
import numpy as np
import pytest
import toy_environments

from rnd_agent.environments import states
from rnd_agent.environments import suites
from rnd_agent.environments.vector.sharded import ShardedPyEnvironment


@pytest.mark.parametrize('name', [
    'MountainCar-v0', 'CartPole-v1', 'Pendulum-v1', 'FrozenLake-v1',
    'toy:Recall', 'toy:Corridor', 'gym:MountainCar-v0', 'gym:Acrobot-v1',
    'minigrid:MiniGrid-MultiRoom-N2-S4-v0', 'LunarLander-v2',
])
@pytest.mark.parametrize('episodes', [0, 2])
def test_an_episode_is_repeated_exactly(name, episodes):
  if name.startswith('minigrid'):
    pytest.importorskip('minigrid')
  if name == 'gym:Acrobot-v1' and np.__version__ >= '2':
    pytest.skip('gym 0.23 itself uses np.float_, which NumPy 2 lacks')
  if name.startswith('Lunar'):
    pytest.importorskip('Box2D')
  env, copy = suites.make(name, seed=3), suites.make(name, seed=4)
  env.action_space.seed(0)

  def play(some):
    observation, reward, terminated, truncated, _ = some.step(action)
    ended = terminated or truncated
    return (some.reset()[0] if ended else observation), reward, ended

  env.reset()
  ends = 0
  for t in range(500):
    action = env.action_space.sample()
    ends += play(env)[2]
    if t > 5 and ends >= episodes:
      break
  copy.reset()
  states.set_state(copy, states.decode(states.encode(states.get_state(env))))
  for _ in range(300):
    action = env.action_space.sample()
    for a, b in zip(play(env), play(copy)):
      np.testing.assert_array_equal(a, b)


def test_long_episodes_are_not_repeated(monkeypatch):
  monkeypatch.setattr(states.Replay, 'LONGEST', 3)
  env = suites.make(toy_environments.endless, seed=1)
  env.reset()
  for _ in range(3):
    env.step(1)
  saved = states.get_state(env)
  states.set_state(env, saved)
  env.step(1)
  with pytest.raises(states.NotExactError, match='more than 3 steps'):
    states.set_state(env, states.get_state(env))
  env.reset()
  states.set_state(env, states.get_state(env))


@pytest.mark.parametrize('space, dtype', [
    (gymnasium.spaces.Discrete(4, start=-1), np.int16),
    (gymnasium.spaces.Discrete(300), np.uint16),
    (gymnasium.spaces.Box(-1, 1, (2,), np.float32), np.float32),
])
def test_actions_take_little_memory(space, dtype):
  actions = states._Actions(space)
  assert actions.array().size == 0
  for _ in range(2):
    expected = [space.sample() for _ in range(150)]
    for action in expected:
      actions.append(action)
    assert actions.array().dtype == dtype
    np.testing.assert_array_equal(actions.array(), expected)
    actions.clear()


def test_what_cannot_be_repeated_begins_a_new_episode():
  with ShardedPyEnvironment(toy_environments.unrepeatable, 2, 1) as env:
    env.reset()
    for _ in range(3):
      env.step_and_reset(np.zeros(2, int))
    state = env.get_state()
    begun = env.set_state(state)
    assert set(begun) == {0, 1}
    assert 'another observation' in begun[0]
    assert env.current_time_step().is_first().all()
    assert (env.current_time_step().observation[:, 0] == 0).all()


def test_an_environment_in_another_chain_is_refused():
  plain = suites.make('CartPole-v1')
  limited = suites.make(
      'CartPole-v1', suites.EnvironmentConfig(max_episode_steps=0)
  )
  with pytest.raises(states.NotExactError, match='another environment'):
    states.set_state(limited, states.get_state(plain))
  atari = suites.make('atari:Pong')
  state = states.get_state(atari)
  with pytest.raises(states.NotExactError, match='that of pong'):
    states.set_state(suites.make('atari:Breakout'), state)


@pytest.mark.parametrize('nest', [
    {'a': [1, 2.5, None, True, 'x'], 'b': {'c': b'\x00\xff'}},
    [2**200, -1, []],
])
def test_plain_data_comes_back(nest):
  assert states.decode(states.encode(nest)) == nest


@pytest.mark.parametrize('dtype', [np.uint8, np.float32, np.int64, np.bool_])
def test_arrays_come_back(dtype):
  array = np.arange(24).reshape(2, 3, 4).astype(dtype)
  back = states.decode(states.encode({'x': array[:, ::2]}))['x']
  assert back.dtype == dtype and back.flags.writeable
  np.testing.assert_array_equal(back, array[:, ::2])


def test_objects_are_not_written():
  with pytest.raises(TypeError, match='Generator cannot be saved'):
    states.encode({'x': np.random.default_rng(1)})
  with pytest.raises(TypeError, match='ndarray cannot be saved'):
    states.encode(np.array([{}], object))


def _compressed(value):
  return zlib.compress(json.dumps(value).encode())


@pytest.mark.parametrize('data', [
    b'', b'garbage', zlib.compress(b'no json'),
    states.encode([1, 2, 3])[:-3],
    _compressed({'__array__': ['|O', [1], base64.b64encode(b'x').decode()]}),
    _compressed({'__array__': ['<f4', [7], base64.b64encode(b'x').decode()]}),
    _compressed({'__array__': 'x'}),
    _compressed({'__array__': ['<f4,,', [1], '']}),
    _compressed({'__bytes__': '!'}),
    b'\x80\x04\x95.',
])
def test_hostile_bytes_are_no_state(data):
  with pytest.raises(ValueError, match='not a saved state'):
    states.decode(data)


def test_a_bomb_is_not_unpacked(monkeypatch):
  monkeypatch.setattr(states, '_LARGEST', 10_000)
  with pytest.raises(ValueError, match='too large'):
    states.decode(zlib.compress(b'"' + b'x' * 100_000 + b'"'))


@pytest.mark.parametrize('text', [
    b'[' + b'[],' * 10**6 + b'0]', b'[' + b'1.5,' * 2 * 10**6 + b'0]',
    b'[' + b'{"":0},' * 10**6 + b'0]',
])
def test_many_parts_are_not_made(text, monkeypatch):
  def loads(*unused_arguments, **unused_settings):
    raise AssertionError('it was made')

  monkeypatch.setattr(json, 'loads', loads)
  with pytest.raises(ValueError, match='too many parts'):
    states.decode(zlib.compress(text))


def test_many_environments_may_be_larger(monkeypatch):
  monkeypatch.setattr(states, '_LARGEST', 1000)
  monkeypatch.setattr(states, '_LARGEST_OF_ALL', 2000)
  monkeypatch.setattr(states, '_LARGEST_SHARE', 200)
  for size, environments, fits in (
      (900, None, True), (1100, None, False), (1100, 1, True),
      (2100, 10, False), (2100, 11, True), (2300, 11, False),
  ):
    data = zlib.compress(json.dumps('x' * (size - 2)).encode())
    if fits:
      assert len(states.decode(data, environments)) == size - 2
    else:
      with pytest.raises(ValueError, match='too large'):
        states.decode(data, environments)


def _part_with(state, name):
  return next(part for part in state if part is not None and name in part)


@pytest.mark.parametrize('name, value', [
    ('game', b'garbage'), ('game', 7), ('previous', 99), ('previous', -1),
    ('previous', 'x'), ('random', {}), ('frames', []), ('frames', 'xxxx'),
    ('frames', [np.zeros((3, 3), np.uint8)] * 4), ('steps', 'x'),
    ('steps', 10**9), ('steps', True), ('length', -1), ('length', 1.5),
    ('return', 'x'), ('places', 'x'), ('places', 7), ('furthest_x', []),
], ids=str)
def test_a_planted_value_is_refused(name, value):
  env = suites.make('atari:MontezumaRevenge')
  env.step(0)
  state = states.decode(states.encode(states.get_state(env)))
  _part_with(state, name)[name] = value
  with pytest.raises(states.NotExactError):
    states.set_state(env, state)
  env.reset()
  env.step(0)


@pytest.mark.parametrize('actions', [
    np.array([7]), np.array([-1]), np.array([0.5]), [1], 7, np.zeros((1, 1)),
], ids=str)
def test_a_planted_action_is_refused(actions):
  env = suites.make('CartPole-v1')
  state = states.get_state(env)
  _part_with(state, 'actions')['actions'] = actions
  with pytest.raises(states.NotExactError):
    states.set_state(env, state)


def test_damaged_states_begin_new_episodes():
  with ShardedPyEnvironment('CartPole-v1', 2, 1) as env:
    env.reset()
    state = env.get_state()
    state['environments'][1] = b'damaged'
    assert set(env.set_state(state)) == {1}
    state['environments'][1] = states.encode([{}])
    assert set(env.set_state(state)) == {1}
    state['environments'][1] = states.encode([None, {'steps': 'x'}, {}, None])
    assert set(env.set_state(state)) == {1}
    state['environments'][1] = 7
    assert set(env.set_state(state)) == {1}
    state['arrays']['rewards'] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match='other environments .rewards'):
      env.set_state(state)


def test_continuous_actions_and_gymnasiums_wrappers_are_repeated():
  env = suites.make(lambda seed: gymnasium.wrappers.RescaleAction(
      gymnasium.make('Pendulum-v1'), np.float32(-1), np.float32(1)
  ))
  env.reset(seed=1)
  for x in (.1, -.7, .3):
    env.step(np.array([x], np.float32))
  copy = suites.make(lambda seed: gymnasium.wrappers.RescaleAction(
      gymnasium.make('Pendulum-v1'), np.float32(-1), np.float32(1)
  ))
  states.set_state(copy, states.get_state(env))
  action = np.array([.5], np.float32)
  np.testing.assert_array_equal(env.step(action)[0], copy.step(action)[0])
