"""The comparison of two arms, without training: plan, table, curves."""


import exploration  # noqa: E402
import numpy as np
import pytest

from rnd_agent.runs import tables


def _run(folder, returns, steps=100):
  folder.mkdir()
  with tables.MetricsFile(folder / 'metrics.csv') as file:
    for i, score in enumerate(returns, start=1):
      file.write(dict(
          iteration=i, env_steps=i * steps, wall_time_s=60 * i,
          episodes=50 * i, episode_return_mean=score,
      ))
  return folder


def _runs(folder, **returns_by_name):
  return [
      exploration.read_run(_run(folder / name, returns))
      for name, returns in returns_by_name.items()
  ]


def test_a_run_is_over_at_its_last_iteration_or_at_its_target(tmp_path):
  folder = _run(tmp_path / 'a', [0.0, 0.5, 0.9])
  assert exploration.Plan(3, None).is_over(folder)
  assert not exploration.Plan(4, None).is_over(folder)
  assert exploration.Plan(4, 0.9).is_over(folder)
  assert not exploration.Plan(4, 0.91).is_over(folder)
  assert not exploration.Plan(1, None).is_over(tmp_path / 'none')
  early = _run(tmp_path / 'b', [0.9])  # 50 episodes: the window is not full.
  assert not exploration.Plan(4, 0.9).is_over(early)


def test_the_plan_is_read_as_train_eval_reads_it(tmp_path):
  path = tmp_path / 'x.gin'
  path.write_text(
      "train_eval.env_name = 'toy:Corridor'\ntrain_eval.num_iterations = 7\n"
  )
  import gin

  gin.clear_config()
  try:
    plan, settings = exploration.read_plan(
        str(path), ['train_eval.target_return = 0.5']
    )
  finally:
    gin.clear_config()
  assert plan == exploration.Plan(7, 0.5)
  assert 'toy:Corridor' in settings and 'target_return = 0.5' in settings


def test_runs_of_other_settings_are_not_mixed(tmp_path):
  path = tmp_path / 'r' / 'settings.gin'
  text = 'train_eval.num_iterations = 5\nPPOConfig.gae_lambda = 0.9\n'
  exploration._check_same_settings(path, text)
  longer = text.replace('5', '50')
  exploration._check_same_settings(path, longer)
  with pytest.raises(exploration.UsageError, match='other settings'):
    exploration._check_same_settings(path, text.replace('9', '8'))


def test_table_by_hand(tmp_path):
  runs = {
      'RND': _runs(tmp_path, a=[-200, -120], b=[-200, -110], c=[-130, -130]),
      'coefficient 0': _runs(tmp_path, d=[-200], e=[-200], f=[-200]),
  }
  lines = exploration.table(runs).splitlines()
  assert len(lines) == 4
  # Three runs: the mean of all; the interval reaches from worst to best, as
  # one draw in 27 is three times the same run.
  assert lines[2] == (
      '| RND | -120.0 | -130.0 to -110.0 | -120.0, -110.0, -130.0 | 200 | 2.0 |'
  )
  assert lines[3] == (
      '| coefficient 0 | -200.0 | -200.0 to -200.0 | -200.0, -200.0, -200.0 '
      '| 100 | 1.0 |'
  )


def test_a_run_without_an_episode_costs_only_its_arm_the_score(tmp_path):
  nan = float('nan')
  runs = {
      'long': _runs(tmp_path, a=[nan, nan], b=[nan, 0.5]),
      'short': _runs(tmp_path, c=[nan, 0.1], d=[0.2, 0.3]),
  }
  lines = exploration.table(runs).splitlines()
  assert lines[2] == (
      '| long | a run finished no episode: train longer |  | nan, 0.500 | 200 '
      '| 2.0 |'
  )
  assert lines[3].startswith('| short | 0.200 | 0.100 to 0.300 |')
  path = tmp_path / 'curves.png'
  exploration.draw(runs, 'a title', path)
  assert path.exists()


def test_curves_share_their_steps_and_go_on_at_the_last_score(tmp_path):
  runs = _runs(
      tmp_path, a=[float('nan'), 0.0, 1.0], b=[0.0, 0.0, 0.0, 0.0, 1.0]
  )
  steps, scores = exploration.curves(runs)
  np.testing.assert_allclose(steps, [200, 300, 400, 500])
  np.testing.assert_allclose(scores, [[0, 1, 1, 1], [0, 0, 0, 1]])


def test_a_picture(tmp_path):
  cv2 = pytest.importorskip('cv2')
  runs = {
      'RND': _runs(tmp_path, a=[-200, -120], b=[-200, -110]),
      'coefficient 0': _runs(tmp_path, c=[-200, -200], d=[-200, -200]),
  }
  path = tmp_path / 'curves.png'
  exploration.draw(runs, 'a title', path)
  assert cv2.imread(str(path)).std() > 10


def test_each_bonus_is_an_arm_beside_the_agent_without():
  without = ('RNDConfig.intrinsic_coefficient = 0.0',)
  assert exploration.arms([]) == {'RND': (), 'coefficient 0': without}
  assert exploration.arms(['NovelD', 'E3B']) == {
      'NovelD': ('train_eval.bonus = @NovelD',),
      'E3B': ('train_eval.bonus = @E3B',),
      'coefficient 0': without,
  }


def test_arms_of_ones_own():
  assert exploration.arms([], [
      'no core: ', 'GRU: Net.core = @GRUCell(); GRUCell.units = 8 '
  ]) == {
      'no core': (), 'GRU': ('Net.core = @GRUCell()', 'GRUCell.units = 8')
  }


@pytest.mark.parametrize('bonuses, own, message', [
    ([], ['GRU'], 'a name and bindings'),
    ([], ['../x: a.b = 1'], 'a name and bindings'),
    (['E3B'], ['GRU: a.b = 1'], '--arm and --bonus'),
    ([], ['my GRU: a.b = 1', 'my-GRU: a.b = 2'], 'have one name'),
])
def test_wrong_arms_are_refused(bonuses, own, message):
  with pytest.raises(exploration.UsageError, match=message):
    exploration.arms(bonuses, own)
