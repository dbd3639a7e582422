"""Factors over agent steps."""

import pytest

from rnd_agent import config
from rnd_agent.common import schedules


@pytest.mark.parametrize('points, expected', [
    (None, {0: 1, 10**9: 1}),
    ([(5, .25)], {0: .25, 5: .25, 100: .25}),
    ([(0, 1.0), (100, 0.0)], {0: 1, 25: .75, 99: .01, 100: 0, 1000: 0}),
    (((50, 1), (50, .5)), {0: 1, 49: 1, 50: .5, 51: .5}),
    (((10, 1), (20, 2), (20, 4), (20, 5), (30, 3)),
     {9: 1, 15: 1.5, 19: 1.9, 20: 5, 25: 4, 31: 3}),
])
def test_factor(points, expected):
  for steps, factor in expected.items():
    assert schedules.factor(points, steps) == pytest.approx(factor), steps


@pytest.mark.parametrize('points', [
    5, 'linear', (), ((0, 1, 2),), (0, 1), ((5, 1), (4, 1)), ((0, -1),),
    ((-1, 1),), ((0, float('nan')),), ((0, True),), ((0, '1'),),
])
@pytest.mark.parametrize('owner, name', [
    (config.PPOConfig, 'learning_rate_schedule'),
    (config.RNDConfig, 'intrinsic_schedule'),
    (config.RNDConfig, 'extrinsic_schedule'),
])
def test_what_is_no_schedule_is_refused(owner, name, points):
  with pytest.raises(ValueError) as error:
    owner(**{name: points})
  message = str(error.value)
  assert message.startswith(f'{owner.__name__}.{name} = ')
  assert 'choose points (agent steps, factor)' in message
