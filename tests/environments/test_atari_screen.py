"""Grey screens of Atari games equal those that OpenCV makes of RGB screens."""

import cv2
import numpy as np
import pytest

from rnd_agent.environments.games import atari
from rnd_agent.environments.games import atari_screen

SHAPE = (210, 160)


class Pictures:
  """Shows pictures of random colours, in a palette of its own."""

  def __init__(self, seed=0):
    self.random = np.random.default_rng(seed)
    self.palette = self.random.integers(0, 256, (256, 3)).astype(np.uint8)
    self.numbers = np.zeros(SHAPE, np.uint8)

  def color_numbers(self):
    return self.numbers.copy()

  def render(self):
    return self.palette[self.numbers]

  def paint(self):
    """Paints all pixels, or one rectangle."""
    random = self.random
    if random.random() < 0.2:
      self.numbers = random.integers(0, 256, SHAPE).astype(np.uint8)
    else:
      y, x = random.integers(SHAPE)
      height, width = random.integers(1, 40, 2)
      self.numbers[y : y + height, x : x + width] = random.integers(256)


def with_opencv(rgb, size):
  grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
  if size == SHAPE:
    return grey
  return cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA)


def check(game, screen, move, count):
  """Compares images of two screens, and of one, with OpenCV's."""
  size = screen.space.shape
  for _ in range(count):
    move()
    before, rgb_before = screen.read(), game.render()
    move()
    np.testing.assert_array_equal(
        screen.image(before),
        with_opencv(np.maximum(rgb_before, game.render()), size),
    )
    np.testing.assert_array_equal(
        screen.image(None), with_opencv(game.render(), size)
    )


@pytest.mark.parametrize(
    'size',
    [
        (84, 84), (64, 64), (42, 42), (100, 100), (128, 128), (36, 48),
        (105, 84), (210, 100), (209, 159), (3, 7),
    ],
)
def test_equals_opencv(size):
  game = Pictures()
  screen = atari_screen.GreyScreen(game, size)
  assert screen.space.shape == size
  check(game, screen, game.paint, 60)


# OpenCV divides by whole numbers, and enlarges, in ways of its own.
@pytest.mark.parametrize('size', [None, (105, 80), (300, 84), SHAPE])
def test_sizes_that_are_left_to_opencv(size):
  game = Pictures()
  screen = atari_screen.GreyScreen(game, size)
  assert screen.space.shape == SHAPE
  check(game, screen, game.paint, 20)


# Pacman's palette is another than Seaquest's.
@pytest.mark.parametrize('name', ['seaquest', 'pacman'])
def test_palettes(name):
  game = atari.AtariGame(name)
  game.reset(seed=0)
  screen = atari_screen.GreyScreen(game, (84, 84))
  random = np.random.default_rng(0)
  images = set()

  def move():
    for _ in range(7):
      game.step(int(random.integers(game.action_space.n)))
    images.add(game.color_numbers().tobytes())

  check(game, screen, move, 40)
  assert len(images) > 20  # The game moved.


def test_a_colour_of_the_screen_before_alone():
  game = Pictures()
  screen = atari_screen.GreyScreen(game)
  game.numbers[:] = 17
  game.numbers[50, 60] = 200
  before, rgb_before = screen.read(), game.render()
  game.numbers[:] = 3
  expected = cv2.cvtColor(
      np.maximum(rgb_before, game.render()), cv2.COLOR_RGB2GRAY
  )
  assert len(np.unique(expected)) == 2
  np.testing.assert_array_equal(screen.image(before), expected)


def test_colour_screen():
  game = Pictures()
  screen = atari_screen.RgbScreen(game)
  assert screen.space.shape == (*SHAPE, 3)
  game.paint()
  before = screen.read()
  game.paint()
  np.testing.assert_array_equal(screen.image(None), game.render())
  np.testing.assert_array_equal(
      screen.image(before), np.maximum(before, game.render())
  )
  assert (screen.image(before) != game.render()).any()


def test_compiles_where_nothing_can_be_cached():
  made = {}
  exec('def double(x):\n  return 2 * x', made)  # Numba finds no file of it.
  assert atari_screen._compiled(made['double'])(21) == 42
