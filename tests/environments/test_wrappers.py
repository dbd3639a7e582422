"""Each wrapper alone, on distinct images."""


import cv2
import gymnasium
import numpy as np
import pytest
from toy_environments import Echo
from toy_environments import Pictures
from toy_environments import Walk

from rnd_agent.environments import states
from rnd_agent.environments import wrappers
from rnd_agent.environments.games import corridor


def test_sticky_actions_repeat_a_quarter_of_the_frames():
  env = Pictures()
  sticky = wrappers.StickyActions(env, 0.25, seed=3)
  sticky.reset(seed=1)
  env.step = lambda action: (env.actions.append(action), 0, False, False, {})
  wished = [t % 5 for t in range(20000)]  # Never twice the same in a row.
  for action in wished:
    sticky.step(action)
  kept = np.mean(np.array(env.actions) != np.array(wished))
  # Standard deviation sqrt(.25 * .75 / 20000) = .0031.
  assert abs(kept - 0.25) < 0.0125


class WithNoop(Pictures):
  """Its action 0 does nothing, and it says so."""

  def get_action_meanings(self):
    return ['NOOP', 'LEFT', 'RIGHT', 'UP', 'DOWN']


@pytest.mark.parametrize('kind, at_start', [(Pictures, 1), (WithNoop, 0)])
def test_sticky_actions_follow_their_generator_exactly(kind, at_start):
  env = kind()
  sticky = wrappers.StickyActions(env, 0.5, seed=3)
  for seed in (11, 12, 13, 14):
    sticky.reset(seed=seed)
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    expected, previous = [], at_start
    for t in range(50):
      action = t % 4 + 1
      previous = previous if stream.random() < 0.5 else action
      expected.append(previous)
      sticky.step(action)
    assert env.actions == expected


def test_nothing_is_repeated_before_the_first_action():
  """Not action 0, which may do something, and may have been left out."""
  env = Pictures()
  offered = wrappers.ActionSubset(wrappers.StickyActions(env, 0.9), [3, 4])
  for seed in range(30):
    offered.reset(seed=seed)
    offered.step(seed % 2)
    assert env.actions == [3 + seed % 2]


def test_previous_action_is_noop_when_an_episode_starts():
  env = WithNoop()
  sticky = wrappers.StickyActions(env, 0.9, seed=0)
  first_actions = []
  sticky.reset(seed=0)
  for _ in range(100):
    sticky.reset()  # Goes on with the same random numbers.
    for _ in range(20):
      sticky.step(3)
    first_actions.append(env.actions[0])
    assert set(env.actions) <= {0, 3}
  assert 70 <= first_actions.count(0) < 100


@pytest.mark.parametrize('probability', [-0.1, 1.0])
def test_sticky_actions_refuse_a_wrong_probability(probability):
  with pytest.raises(ValueError, match='probability'):
    wrappers.StickyActions(Pictures(), probability)


def test_sticky_actions_refuse_continuous_actions():
  box = Echo(gymnasium.spaces.Box(0, 1, (2,)))
  with pytest.raises(ValueError, match='Discrete'):
    wrappers.StickyActions(box, 0.25)


def test_skip_holds_sums_and_takes_the_maximum_of_the_last_two():
  env = Pictures()
  skip = wrappers.SkipAndMax(env, 4)
  first, _ = skip.reset(seed=0)
  np.testing.assert_array_equal(first, env.frames[0])
  for action in (2, 4):
    frame, reward, terminated, truncated, info = skip.step(action)
    assert env.actions[-4:] == [action] * 4
    assert reward == 10.0
    assert not terminated and not truncated
    assert info['place'] == len(env.actions)
    expected = np.maximum(env.frames[-1], env.frames[-2])
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize('length', [1, 2, 3, 4])
def test_skip_stops_where_the_episode_ends(length):
  env = Pictures(length)
  skip = wrappers.SkipAndMax(env, 4)
  skip.reset(seed=0)
  frame, reward, terminated, _, _ = skip.step(1)
  assert terminated
  assert len(env.actions) == length
  assert reward == 2.5 * length
  expected = env.frames[-1]
  if length == 4:
    expected = np.maximum(expected, env.frames[-2])
  np.testing.assert_array_equal(frame, expected)


def test_skip_of_one_shows_every_frame():
  env = Pictures()
  skip = wrappers.SkipAndMax(env, 1)
  skip.reset(seed=0)
  np.testing.assert_array_equal(skip.step(0)[0], env.frames[-1])


@pytest.mark.parametrize('length', [2, 3, 5])
def test_what_is_no_picture_is_held_too(length):
  env = Echo(gymnasium.spaces.Discrete(9))
  skip = wrappers.SkipFrames(wrappers.TimeLimit(env, length), 3)
  skip.reset()
  observation, reward, terminated, truncated, _ = skip.step(4)
  assert observation.tolist() == [4.0]
  assert (terminated, truncated) == (False, length <= 3)
  assert reward == min(length, 3)


def test_grey_comes_before_the_size():
  env = Pictures()
  resize = wrappers.GrayResize(env, 12)
  image, _ = resize.reset(seed=0)
  rgb = env.frames[0]
  grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
  expected = cv2.resize(grey, (12, 12), interpolation=cv2.INTER_AREA)
  np.testing.assert_array_equal(image, expected)
  small = cv2.resize(rgb, (12, 12), interpolation=cv2.INTER_AREA)
  assert (image != cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)).any()
  # Red counts .299: a swap of red and blue would show.
  weights = np.array([0.299, 0.587, 0.114])
  assert np.abs(grey - rgb @ weights).max() <= 1.0


@pytest.mark.parametrize(
    ('size', 'grayscale', 'shape'),
    [
        (12, False, (12, 12, 3)),
        (None, True, (20, 30)),
        (8, True, (8, 8)),
        ((8, 11), True, (8, 11)),
        ((40, 10), False, (40, 10, 3)),
    ],
)
def test_image_shapes(size, grayscale, shape):
  resize = wrappers.GrayResize(Pictures(), size, grayscale)
  image, _ = resize.reset(seed=0)
  assert image.shape == shape == resize.observation_space.shape
  if shape == (40, 10, 3):  # OpenCV wants the width first.
    expected = cv2.resize(
        resize.env.frames[0], (10, 40), interpolation=cv2.INTER_AREA
    )
    np.testing.assert_array_equal(image, expected)
  assert resize.observation_space.contains(image)


@pytest.mark.parametrize('grayscale', [True, False])
@pytest.mark.parametrize('count', [1, 3])
def test_stack_has_the_newest_last_and_repeats_the_first(count, grayscale):
  env = Pictures()
  images = wrappers.GrayResize(env, 12, grayscale)
  stack = wrappers.StackFrames(images, count)
  observation, _ = stack.reset(seed=0)
  seen = [images.observation(env.frames[0])] * count
  for t in range(6):
    seen_last = [np.atleast_3d(image) for image in seen[-count:]]
    np.testing.assert_array_equal(observation, np.concatenate(seen_last, -1))
    assert stack.observation_space.contains(observation)
    before, kept = observation, observation.copy()
    observation = stack.step(t % 5)[0]
    np.testing.assert_array_equal(before, kept)  # Not written into again.
    seen.append(images.observation(env.frames[-1]))
  observation, _ = stack.reset()
  first = np.atleast_3d(images.observation(env.frames[0]))
  np.testing.assert_array_equal(observation, np.concatenate([first] * count, 2))


def test_one_channel_stays_one_channel():
  class Grey(Pictures):
    observation_space = gymnasium.spaces.Box(0, 255, (20, 30, 1), np.uint8)

    def _frame(self):
      return super()._frame()[..., :1]

  resize = wrappers.GrayResize(Grey(), (5, 6))
  assert resize.reset(seed=0)[0].shape == (5, 6, 1)
  stack = wrappers.StackFrames(resize, 3)
  assert stack.reset(seed=0)[0].shape == (5, 6, 3)


def test_vectors_are_stacked_end_to_end():
  stack = wrappers.StackFrames(Walk(), 3)
  space = stack.observation_space
  assert space == gymnasium.spaces.Box(-1e6, 1e6, (6,), np.float32)
  seen = [stack.reset(seed=0)[0]]
  assert (seen[0].reshape(3, 2) == seen[0][:2]).all()
  for _ in range(4):
    seen.append(stack.step(0)[0])
    assert seen[-1].dtype == np.float32 and space.contains(seen[-1])
    np.testing.assert_array_equal(seen[-1][:4], seen[-2][2:])
    assert seen[-1][4] == len(seen) - 1  # The newest time is last.


def test_images_that_are_no_pictures_are_stacked_too():
  class Planes(Pictures):
    observation_space = gymnasium.spaces.Box(0, 1, (4, 5, 2), np.float32)

    def _frame(self):
      return self._random.random((4, 5, 2), np.float32)

  stack = wrappers.StackFrames(Planes(), 2)
  before = stack.reset(seed=0)[0]
  after = stack.step(0)[0]
  assert after.shape == (4, 5, 4) and after.dtype == np.float32
  np.testing.assert_array_equal(after[..., :2], before[..., 2:])
  assert (after[..., 2:] != before[..., 2:]).all()


def test_some_of_the_actions():
  env = Pictures()
  subset = wrappers.ActionSubset(env, [3, 0, 2])
  assert subset.action_space == gymnasium.spaces.Discrete(3)
  subset.reset(seed=0)
  for action in (0, 1, 2, 0):
    subset.step(action)
  assert env.actions == [3, 0, 2, 3]
  with pytest.raises(ValueError, match='only discrete actions'):
    wrappers.ActionSubset(Echo(gymnasium.spaces.Box(0, 1, (2,))), [0])


def test_every_episode_has_the_same_seed():
  same = wrappers.SameLayout(Walk(), 11)
  other = Walk()
  expected = other.reset(seed=11)[0]
  for seed in (None, 3, None):
    np.testing.assert_array_equal(same.reset(seed=seed)[0], expected)
  same.reset()
  assert [same.step(0)[1] for _ in range(5)] == [
      other.step(0)[1] for _ in range(5)
  ]


def test_the_agent_gets_no_reward_but_statistics_do():
  env = wrappers.WithoutReward(wrappers.EpisodeStatistics(Pictures(4)))
  env.reset(seed=0)
  steps = [env.step(0) for _ in range(4)]
  assert [step[1] for step in steps] == [0.0] * 4
  assert steps[3][4]['episode']['episode_return'] == 10.0


def test_furthest_x_is_the_largest_of_the_episode():
  class Level(Pictures):
    def step(self, action):
      step = super().step(action)
      x = [-7, -3, -5][len(self.actions) % 3]
      return *step[:4], {'x': x}

  env = wrappers.EpisodeStatistics(Level(4))
  env.reset(seed=0)
  assert [env.step(0)[4] for _ in range(4)][3]['episode']['furthest_x'] == -3.0
  env = wrappers.EpisodeStatistics(Level(2))
  env.reset(seed=0)  # Its own figures only.
  env.step(0)
  assert env.step(0)[4]['episode']['furthest_x'] == -3.0


@pytest.mark.parametrize('is_termination', [True, False])
def test_time_limit(is_termination):
  limit = wrappers.TimeLimit(Pictures(), 5, is_termination)
  for _ in range(2):
    limit.reset(seed=0)
    ends = [limit.step(0)[2:4] for _ in range(5)]
    assert ends[:4] == [(False, False)] * 4
    assert ends[4] == (is_termination, not is_termination)


def test_a_death_at_the_limit_stays_a_termination():
  limit = wrappers.TimeLimit(Pictures(3), 3, is_termination=False)
  limit.reset(seed=0)
  assert [limit.step(0)[2] for _ in range(3)] == [False, False, True]


def test_statistics_are_those_before_clipping():
  env = wrappers.ClipReward(wrappers.EpisodeStatistics(Pictures(4)), 1.0)
  for _ in range(2):
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(4)]
    assert [step[1] for step in steps] == [1.0] * 4
    assert all('episode' not in step[4] for step in steps[:3])
    assert steps[3][4]['episode'] == {
        'episode_return': 10.0,
        'length': 4,
        'places': (1, 2, 3, 4),
        'furthest_x': None,
    }


def test_statistics_count_the_place_of_the_start():
  env = wrappers.EpisodeStatistics(wrappers.TimeLimit(Walk(), 1))
  env.reset(seed=0)
  assert env.step(0)[4]['episode']['places'] == (1, 7)


def test_clipping_keeps_small_rewards_and_signs():
  class Rewards(Pictures):
    def step(self, action):
      return self._frame(), [0.25, -7.0, 400.0][action], False, False, {}

  env = wrappers.ClipReward(Rewards(), 2.0)
  env.reset(seed=0)
  assert [env.step(a)[1] for a in range(3)] == [0.25, -2.0, 2.0]


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: wrappers.SkipAndMax(Pictures(), 0), 'frame_skip'),
        (lambda: wrappers.StackFrames(Pictures(), 0), 'stacked_frames'),
        (lambda: wrappers.TimeLimit(Pictures(), 0), 'max_episode_steps'),
        (lambda: wrappers.ClipReward(Pictures(), 0), 'reward_clip'),
        (lambda: wrappers.SkipFrames(Walk(), 0), 'frame_skip'),
        (lambda: wrappers.SkipAndMax(corridor.Corridor(), 2), 'not images'),
        (lambda: wrappers.ActionSubset(Walk(), [0, 3]), 'no action 3, .* to 2'),
        (lambda: wrappers.GrayResize(Walk(), 8), 'not images'),
    ],
)
def test_wrong_arguments(build, message):
  with pytest.raises(ValueError, match=message):
    build()


def _wrapped(seed):
  env = wrappers.StickyActions(states.Replay(Pictures(30)), 0.25)
  env = wrappers.GrayResize(wrappers.SkipAndMax(env, 2), 12)
  env = wrappers.TimeLimit(wrappers.StackFrames(env, 3), 10)
  env = wrappers.ClipReward(wrappers.EpisodeStatistics(env), 1.0)
  env.reset(seed=seed)
  return env


def test_a_state_before_the_first_action_is_saved():
  env = wrappers.StickyActions(states.Replay(Pictures(30)), 0.9)
  env.reset(seed=1)
  saved = states.decode(states.encode(states.get_state(env)))
  env.step(2)
  states.set_state(env, saved)
  env.step(4)
  assert env.unwrapped.actions == [4]


def test_all_state_is_saved():
  env, copy = _wrapped(5), _wrapped(6)
  for t in range(6):
    env.step(t % 5)
  states.set_state(copy, states.decode(states.encode(states.get_state(env))))
  for t in range(4):
    expected, actual = env.step(t), copy.step(t)
    np.testing.assert_array_equal(expected[0], actual[0])
    assert expected[1:] == actual[1:]
  assert expected[4]['episode']['length'] == 10
