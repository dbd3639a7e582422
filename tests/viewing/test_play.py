"""play.py: what a run's folder alone is good for, and what it may not do."""

import html
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import short_runs

from rnd_agent import config as config_lib
from rnd_agent.commands import play
from rnd_agent.commands import plot
from rnd_agent.environments import environment_config
from rnd_agent.environments import suites
from rnd_agent.environments import wrappers
from rnd_agent.environments.games import corridor
from rnd_agent.runs import checkpoint_files
from rnd_agent.runs import checkpoints
from rnd_agent.runs import run_folder
from rnd_agent.settings import gin_files
from rnd_agent.viewing import episode_trace
from rnd_agent.viewing import play_lib
from rnd_agent.viewing import run_config

# A module of the stranger's, where it would be found.
_EVIL = 'gymnasium:planted:X-v0'
_KERAS = (
    "{'module': 'planted', 'class_name': 'f', 'config': {}, "
    "'registered_name': None}"
)
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SIZES = (
    'train_eval.num_parallel_environments = 4',
    'train_eval.num_workers = 1',
    'train_eval.num_iterations = 1',
    'train_eval.num_minibatches = 2',
    'train_eval.num_epochs = 1',
    'train_eval.random_rollouts = 1',
    'train_eval.eval_interval = 0',
    'RandomNetworkDistillation.feature_dim = 8',
    'RandomNetworkDistillation.predictor_hidden_units = (8,)',
    'ActorCriticNetwork.fc_layer_params = (16, 16)',
)


def _train(folder, *bindings):
  return short_runs.train(folder, *_SIZES, *bindings)


@pytest.fixture(name='trained', scope='module')
def _trained(tmp_path_factory):
  return _train(
      tmp_path_factory.mktemp('corridor') / 'run',
      "train_eval.env_name = 'toy:Corridor'", 'train_eval.rollout_length = 8',
      'EnvironmentConfig.max_episode_steps = 12',
  )


@pytest.fixture(name='folder')
def _folder(trained, tmp_path, monkeypatch):
  """A run as a stranger would send it: config and checkpoint, nothing else.

  Beside it, where Python finds it, lies a module that must not be imported.
  """
  (tmp_path / 'planted.py').write_text('def f(): pass\n')
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, 'planted', raising=False)
  folder = tmp_path / 'run'
  folder.mkdir()
  shutil.copy(trained / 'operative_config.gin', folder)
  shutil.copytree(trained / 'checkpoints', folder / 'checkpoints')
  return folder


def _player(folder, **settings):
  return play_lib.Player(run_folder.RunFolder(folder), **settings)


@pytest.fixture(name='command')
def _command():
  """Runs play.main in this process, where TensorFlow is loaded already."""
  play._FLAGS.mark_as_parsed()
  before = play._FLAGS.flag_values_dict()

  def run(*arguments):
    try:
      play.main(['play.py', *map(str, arguments)])
    finally:
      for name, value in before.items():
        play._FLAGS[name].value = value
        play._FLAGS[name].using_default_value = True

  return run


def _film(path):
  """Frames per second, width and number of frames of a film."""
  capture, count = cv2.VideoCapture(str(path)), 0
  speed, width = (
      capture.get(p) for p in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH)
  )
  while capture.read()[0]:
    count += 1
  return speed, width, count


def _count_frames(path):
  return _film(path)[-1]


def test_it_prints_films_and_saves(folder, tmp_path, command, capsys):
  command(
      f'--root_dir={folder}', '--episodes=2', f'--video={tmp_path}/out.mp4',
      '--highlights', f'--trace={tmp_path}/out.npz',
  )
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].endswith(
      'toy:Corridor after iteration 1, sampled actions')
  assert re.match(r'episode 1: score 0, 12 steps, \d+ places?, intrinsic', (
      lines[1]))
  assert lines[3].startswith('mean of 2 episodes: score 0 (0 to 0), 12 steps')
  # Two episodes of 12 steps have 13 observations each.
  # At the game's speed, 10 Hz, and of twice its width, beside the panel.
  assert _film(tmp_path / 'out.mp4') == (10, 1020, 26)
  assert _film(tmp_path / 'out-peak-1.mp4') == (10, 1020, 13)
  trace = episode_trace.load(tmp_path / 'out.npz')
  assert trace.length == 13 and len(trace.frames) == 13
  assert trace.place[0] == 0 and trace.action[-1] == -1
  np.testing.assert_allclose(trace.probabilities[:-1].sum(-1), 1, rtol=1e-5)
  ratio = trace.bonus / trace.intrinsic_reward
  np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
  assert sorted(path.name for path in folder.iterdir()) == [
      'checkpoints', 'operative_config.gin']


def test_it_restores_what_was_trained(trained, folder):
  """The agent's numbers are those of the checkpoint, part by part."""
  import tensorflow as tf

  player = _player(folder)
  path = str(trained / 'checkpoints' / 'iteration-1')
  reader = tf.train.load_checkpoint(path)
  items = player._agent.checkpoint_items()
  parts = {name: items[name] for name in (
      'actor_critic', 'predictor', 'target', 'rnd_observations'
  )}
  # The running returns are those of training's environments.
  parts['rnd_returns/_statistics'] = items['rnd_returns'].statistics
  for part, item in parts.items():
    saved = sorted(
        reader.get_tensor(name).tobytes()
        for name, _ in tf.train.list_variables(path)
        if name.startswith(f'{part}/') and 'VARIABLE_VALUE' in name
    )
    restored = sorted(v.numpy().tobytes() for v in item.variables)
    assert len(saved) > 3 and restored == saved, part
  assert player.iteration == 1
  player.close()


@pytest.mark.slow
def test_stacked_vectors_are_restored_and_scores_are_the_games(
    tmp_path, command, capsys
):
  """The bonus sees one frame, three of which make an observation."""
  pytest.importorskip('pygame')
  folder = _train(
      tmp_path / 'run', "train_eval.env_name = 'gymnasium:CartPole-v1'",
      'train_eval.rollout_length = 8', 'EnvironmentConfig.stacked_frames = 3',
      'EnvironmentConfig.extrinsic_reward = False',
  )
  command(f'--root_dir={folder}', f'--trace={tmp_path}/out.npz', '--episodes=2',
          f'--video={tmp_path}/out.mp4')
  trace = episode_trace.load(tmp_path / 'out.npz')
  steps = trace.length - 1  # A point each, none of which the agent gets.
  assert trace.score[-1] == steps > 4
  assert f'episode 1: score {steps}, {steps} steps' in capsys.readouterr().out
  # 50 Hz, a picture of 400 x 600.
  assert _film(tmp_path / 'out.mp4')[:2] == (50, 980)


@pytest.mark.parametrize('env_name, bindings, last_axis, frame', [
    ('atari:Venture', ('grayscale = False',), 12, 3),
    ('minigrid:MiniGrid-Empty-5x5-v0', ('stacked_frames = 2',), 48, 24),
])
def test_a_frame_may_have_any_number_of_channels(
    env_name, bindings, last_axis, frame
):
  if env_name.startswith('minigrid'):
    pytest.importorskip('minigrid')
  gin_files.parse([], [*_SIZES, *(f'EnvironmentConfig.{b}' for b in bindings)])
  settings = run_config.Settings(env_name, 4, 2, 1, 'float32', None)
  environment = suites.make(env_name)
  assert environment.observation_space.shape[-1] == last_axis
  agent = play_lib._build_agent(
      environment, settings, config_lib.ComputeConfig()
  )
  statistics = agent.rnd.observation_normalizer.variables
  assert {v.shape[-1] for v in statistics} == {frame}
  environment.close()


def test_actions_have_the_names_that_their_environment_gives():
  def names(env_name, **config):
    environment = suites.make(
        env_name, environment_config.EnvironmentConfig(**config)
    )
    environment.close()
    return wrappers.action_names(environment)

  assert names('atari:Venture')[:3] == ('NOOP', 'FIRE', 'UP')
  assert names('atari:Venture', actions=[2, 0]) == ('UP', 'NOOP')
  assert names('toy:Corridor') == names('toy:Corridor', actions=[1, 0]) == ()


def test_minigrid_names_its_actions():
  pytest.importorskip('minigrid')
  environment = suites.make('minigrid:MiniGrid-Empty-5x5-v0')
  assert wrappers.action_names(environment) == (
      'left', 'right', 'forward', 'pickup', 'drop', 'toggle', 'done')
  environment.close()


def test_sticky_actions_can_be_turned_off(folder, tmp_path, command):
  def places(*arguments):
    command(f'--root_dir={folder}', f'--trace={tmp_path}/out.npz', *arguments)
    return episode_trace.load(tmp_path / 'out.npz').place.tolist()

  without = places()
  with open(folder / 'operative_config.gin', 'a', encoding='utf-8') as file:
    file.write('\nEnvironmentConfig.sticky_action_probability = 0.9\n')
  assert places() != without
  assert places('--sticky=0') == without


def test_what_is_printed_of_an_episode():
  def outcome(score, rooms, furthest_x):
    trace = episode_trace.EpisodeTrace(
        'title', (), *[np.full(4, np.nan, np.float32)] * 4,
        *[np.zeros(4, np.int64)] * 3, np.zeros((4, 0), np.float32), (),
    )
    return play_lib.Outcome(score, 12345, rooms, furthest_x, True, trace)

  first, second = outcome(28000.0, 22, None), outcome(-0.25, 1, 3161.0)
  assert play._described(first, 'atari:MontezumaRevenge') == (
      'score 28,000, 12,345 steps, 22 rooms')
  assert play._described(second, 'mario:SuperMarioBros-v0') == (
      'score -0.25, 12,345 steps, 1 place, furthest x 3,161')
  assert play._summarized([first, first], 'ALE/Pitfall-v5') == (
      'mean of 2 episodes: score 28,000 (28,000 to 28,000), 12,345 steps, '
      'rooms 22')
  assert play._summarized([second] * 3, 'toy:Corridor').endswith(
      ', places 1, furthest x 3,161')


def test_clips_begin_with_the_highest_peak():
  def outcome(*peaks):
    reward = np.zeros(400, np.float32)
    for step, height in peaks:
      reward[step] = height
    trace = episode_trace.EpisodeTrace(
        'title', (), *[reward] * 4, *[reward.astype(np.int64)] * 3,
        np.zeros((400, 0), np.float32), (),
    )
    return play_lib.Outcome(0.0, 399, None, None, True, trace)

  clips = play._clips([
      outcome((40, 2.0), (200, 5.0), (350, 1.0)), outcome((100, 3.0)),
  ])
  assert clips == [
      (0, range(170, 231)), (1, range(70, 131)), (0, range(10, 71)),
  ]


def test_seeds_and_greedy_actions(folder):
  def actions(seed, greedy):
    player = _player(folder, seed=seed)
    trace = player.play(greedy=greedy, frames=False).trace
    player.close()
    return trace

  a, b, other = actions(1, False), actions(1, False), actions(2, False)
  np.testing.assert_array_equal(a.action, b.action)
  np.testing.assert_array_equal(a.value_int, b.value_int)
  assert not np.array_equal(a.action, other.action)
  greedy = actions(1, True)
  np.testing.assert_array_equal(
      greedy.action[:-1], greedy.probabilities[:-1].argmax(-1))
  assert not a.frames


def test_an_episode_can_be_cut(folder):
  player = _player(folder)
  outcome = player.play(max_steps=5)
  assert outcome.length == 5 and not outcome.complete
  assert player.play().complete
  seen = []
  outcome = player.play(watch=lambda frame, score: seen.append(frame.shape)
                        or len(seen) < 3)
  assert outcome.length == 2 and not outcome.complete
  player.close()


@pytest.mark.slow
def test_recurrent_cores_carry_their_state(tmp_path, capsys):
  folder = _train(
      tmp_path / 'run', "train_eval.env_name = 'toy:Recall'",
      'train_eval.rollout_length = 16',
      'ActorCriticNetwork.core = @GRUCell()', 'GRUCell.units = 8',
  )
  # There is nothing to film of this one.
  assert 'play.py --root_dir' in (out := capsys.readouterr().out)
  assert '--video' not in out
  player = _player(folder)
  seen = []
  look = player._forward

  def watched(last_step, observation, step_type, state, *rest):
    result = look(last_step, observation, step_type, state, *rest)
    seen.append((state, result['state']))
    return result

  player._forward = watched
  player.play(frames=False)
  flat = [np.concatenate([np.ravel(x) for x in _flat(s)]) for s, _ in seen]
  assert not flat[0].any() and flat[1].any()
  for (_, after), (before, _) in zip(seen, seen[1:]):
    for x, y in zip(_flat(after), _flat(before)):
      np.testing.assert_array_equal(x, y)
  player.close()


def _flat(state):
  import tensorflow as tf

  return tf.nest.flatten(state)


def test_pictures_that_need_a_package_are_one_line(folder, monkeypatch):
  import gymnasium

  def render():
    raise gymnasium.error.DependencyNotInstalled('pygame is not\ninstalled')

  player = _player(folder)
  monkeypatch.setattr(player._environment.unwrapped, 'render', render)
  with pytest.raises(play_lib.PlayError, match='pygame is not installed'):
    player.play()
  player.close()


def test_scores_are_not_clipped_and_sticky_actions_are_optional(folder):
  config = folder / 'operative_config.gin'
  text = re.sub(r'EnvironmentConfig.reward_clip = .*\n', '',
                config.read_text())
  config.write_text(f'{text}\nEnvironmentConfig.reward_clip = 0.5\n')
  player = _player(folder, sticky=0.9)
  names, environment = [], player._environment
  while hasattr(environment, 'env'):
    names.append(type(environment).__name__)
    environment = environment.env
  assert 'ClipReward' not in names and 'StickyActions' in names
  player.close()


def test_gymnasium_environments_can_be_drawn():
  pytest.importorskip('pygame')
  environment = suites.make('gymnasium:CartPole-v1')
  assert environment.render_mode == 'rgb_array'
  assert environment.render().shape == (400, 600, 3)
  environment.close()


# ------------------------------------------------------- strangers' folders


def _refused(folder, kind, match):
  with pytest.raises(kind, match=match) as error:
    _player(folder)
  assert '\n' not in str(error.value).partition('\n  In call to')[0]


@pytest.mark.parametrize('line, kind, match', [
    ("include '/etc/hostname'", run_config.RefusedConfigError,
     'includes another file'),
    ('import os', gin_files.ConfigError, 'modules of rnd_agent only'),
    ('from subprocess import run', gin_files.ConfigError, 'rnd_agent only'),
    ('ActorCriticNetwork.core = @ActorPolicy', gin_files.UntrustedError,
     'refers to @ActorPolicy, not to a macro'),
    ('ActorCriticNetwork.core = [@train_eval]', gin_files.UntrustedError,
     'refers to'),
    ('ActorCriticNetwork.core = @ShardedPyEnvironment()\n'
     f"ShardedPyEnvironment.env_name = '{_EVIL}'\n"
     'ShardedPyEnvironment.num_environments = 1', gin_files.UntrustedError,
     'refers to @ShardedPyEnvironment'),
    (f"ShardedPyEnvironment.env_name = '{_EVIL}'", gin_files.UntrustedError,
     'add --trust'),
    ("ShardedPyEnvironment.env_name = 'toy:Recall'", gin_files.ConfigError,
     'bind train_eval.env_name'),
    ('GRUCell.units = 8\nActorCriticNetwork.core = @GRUCell()\n'
     f'GRUCell.activation = {_KERAS}', gin_files.UntrustedError,
     'can name any function'),
    (f"train_eval.env_name = '{_EVIL}'", gin_files.UntrustedError,
     'add --trust'),
    ("train_eval.env_name = 'toy:Nothing'", ValueError, 'Nothing'),
    ('train_eval.num_epochs = 0', gin_files.ConfigError, 'num_epochs'),
    ('train_eval.no_such_thing = 0', gin_files.ConfigError, 'no_such_thing'),
])
def test_configs_that_ask_for_too_much(folder, line, kind, match):
  with open(folder / 'operative_config.gin', 'a', encoding='utf-8') as file:
    file.write(f'\n{line}\n')
  _refused(folder, kind, match)
  assert 'planted' not in sys.modules


def test_an_include_behind_a_byte_order_mark(folder):
  text = "include 'base.gin'\ntrain_eval.env_name = 'toy:Corridor'\n"
  (folder / 'operative_config.gin').write_text(text, encoding='utf-8-sig')
  _refused(folder, run_config.RefusedConfigError, 'includes another file')


def test_what_is_planted_there_would_run(folder):
  """So that the test above can fail."""
  with open(folder / 'operative_config.gin', 'a', encoding='utf-8') as file:
    file.write(f"\ntrain_eval.env_name = '{_EVIL}'\n")
  with pytest.raises(ValueError, match='X-v0'):
    _player(folder, trust=True)
  assert 'planted' in sys.modules


def test_foreign_references_are_refused(folder):
  """Whatever gin knows from TF-Agents could be called by a config."""
  with open(folder / 'operative_config.gin', 'a', encoding='utf-8') as file:
    file.write('\nActorCriticNetwork.core = {"a": (1, @QPolicy)}\n')
  _refused(folder, gin_files.UntrustedError, 'any function')
  path = folder / 'operative_config.gin'
  path.write_text(path.read_text().replace('{"a": (1, @QPolicy)}',
                                           '["a", (1, @QPolicy)]'))
  _refused(folder, gin_files.UntrustedError, 'refers to @QPolicy')


def test_checkpoints_that_are_not_there_or_lie_elsewhere(folder, tmp_path):
  (tmp_path / 'elsewhere').mkdir()
  for path in (folder / 'checkpoints').glob('iteration-1*'):
    path.rename(tmp_path / 'elsewhere' / path.name)
  _refused(folder, play_lib.PlayError, 'no checkpoint')
  names = [path.name for path in (tmp_path / 'elsewhere').iterdir()]
  checksums, = (tmp_path / 'elsewhere').glob('*.json')
  text = checksums.read_text()
  (folder / 'checkpoints' / checksums.name).write_text(
      text.replace('"iteration-1', '"../../elsewhere/iteration-1')
  )
  _refused(folder, checkpoints.CheckpointError, 'is not the name')
  for name in names:
    path = folder / 'checkpoints' / name
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / 'elsewhere' / name)
  _refused(folder, run_folder.RunFolderError, 'leads out of the run')
  shutil.rmtree(folder / 'checkpoints')
  _refused(folder, play_lib.PlayError, 'no checkpoint yet')


def test_other_networks_and_damage_are_one_line(folder):
  config = folder / 'operative_config.gin'
  text = config.read_text()
  config.write_text(text.replace('(16, 16)', '(16, 24)'))
  _refused(folder, checkpoints.CheckpointError, 'cannot be restored')
  config.write_text(text)
  data, = (folder / 'checkpoints').glob('iteration-1.data*')
  data.write_bytes(data.read_bytes()[:100])
  _refused(folder, checkpoints.CheckpointError, 'iteration-1')


@pytest.mark.parametrize('text', [
    '{}', '{"iteration": "x"}', '[1]', 'null', '[["iteration", 1]]',
])
def test_planted_progress_is_one_line(folder, text):
  import tensorflow as tf

  prefix = str(folder / 'checkpoints' / 'iteration-1')
  reader = tf.train.load_checkpoint(prefix)
  tensors = {
      key: tf.constant(reader.get_tensor(key))
      for key in reader.get_variable_to_shape_map()
  }
  tensors['progress/.ATTRIBUTES/py_state'] = tf.constant(text)
  names = sorted(tensors)
  tf.raw_ops.SaveV2(
      prefix=prefix, tensor_names=names, shape_and_slices=[''] * len(names),
      tensors=[tensors[name] for name in names],
  )
  checkpoint_files.write_list(prefix)
  _refused(folder, checkpoints.CheckpointError, 'cannot be restored')


def test_errors_carry_no_control_characters(folder, command, capsys):
  with open(folder / 'operative_config.gin', 'a', encoding='utf-8') as file:
    file.write('\n"\x1b]0;owned\x07" = 1\n')
  with pytest.raises(SystemExit):
    command(f'--root_dir={folder}')
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and 'operative_config.gin' in error
  assert '\x1b' not in error and '\x07' not in error


def test_names_carry_no_control_characters(folder, command, capsys):
  with open(folder / 'operative_config.gin', 'a', encoding='utf-8') as file:
    file.write("\ntrain_eval.env_name = 'toy:\\x1b[2J'\n")
  with pytest.raises(SystemExit):
    command(f'--root_dir={folder}')
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and '\\x1b[2J' in error
  assert '\x1b' not in error


def test_what_is_printed_carries_none(folder, command, capsys, monkeypatch):
  monkeypatch.setattr(
      play_lib.Player, 'env_name', property(lambda self: 'toy:\x1b[2J')
  )
  command(f'--root_dir={folder}')
  output = capsys.readouterr().out
  assert 'toy:\\x1b[2J after' in output and '\x1b' not in output


def test_the_unforeseen_is_one_line_but_for_developers(
    folder, command, capsys, monkeypatch
):
  def read(*unused_arguments, **unused_settings):
    raise ZeroDivisionError('by zero')

  monkeypatch.delenv('RND_AGENT_TRACEBACK', raising=False)
  monkeypatch.setattr(run_config, 'read', read)
  with pytest.raises(SystemExit) as ended:
    command(f'--root_dir={folder}')
  assert ended.value.code == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  assert f'{folder}: ZeroDivisionError: by zero' in error
  assert 'test_play.py:' in error and 'RND_AGENT_TRACEBACK=1' in error
  monkeypatch.setenv('RND_AGENT_TRACEBACK', '1')
  with pytest.raises(ZeroDivisionError):
    command(f'--root_dir={folder}')


# ------------------------------------------------------------- command line


@pytest.mark.parametrize('arguments, part', [
    ((), "name the run's folder"),
    (('--root_dir=none',), 'no such folder'),
    (('--root_dir=.', '--video=x.avi'), 'films end in'),
    (('--root_dir=.', '--highlights'), '--highlights needs --video'),
    (('--root_dir=.', '--trace=x.txt'), 'traces end in .npz'),
    (('--root_dir=.', '--video=none/x.mp4'), 'no folder none'),
    (('--root_dir=.',), 'is not a run'),
    (('--root_dir=.', '--episodes=0'), 'episodes'),
    (('extra',), 'unexpected argument'),
])
def test_mistakes_are_one_line_and_status_2(
    tmp_path, monkeypatch, command, capsys, arguments, part
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as error:
    command(*arguments)
  assert error.value.code == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and part in lines[0], lines


def test_a_window_needs_a_display(folder, monkeypatch, command, capsys):
  monkeypatch.delenv('DISPLAY', raising=False)
  with pytest.raises(SystemExit) as error:
    command(f'--root_dir={folder}', '--render')
  assert error.value.code == 2
  assert '--render needs a display' in capsys.readouterr().err


def test_a_report_plays_an_episode(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  plot._FLAGS.mark_as_parsed()
  episode = plot._episode(run_folder.RunFolder(folder))
  assert episode.trace.length == 13 and episode.frames_per_second == 10
  shutil.rmtree(folder / 'checkpoints')
  episode = plot._episode(run_folder.RunFolder(folder))
  assert episode.trace is None and 'no checkpoint' in episode.reason


def test_what_was_played_until_ctrl_c_is_written(
    folder, tmp_path, command, capsys, monkeypatch
):
  """The third picture of the second episode is the last one."""
  render, seen = corridor.Corridor.render, []

  def interrupted(self):
    seen.append(self)
    if len(seen) == 16:
      signal.raise_signal(signal.SIGINT)
    return render(self)

  monkeypatch.setattr(corridor.Corridor, 'render', interrupted)
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(SystemExit) as error:
    command(f'--root_dir={folder}', '--episodes=3',
            f'--video={tmp_path}/out.mp4')
  assert error.value.code == 130
  assert signal.getsignal(signal.SIGINT) is before
  assert _count_frames(tmp_path / 'out.mp4') == 13 + 3
  out = capsys.readouterr().out
  assert re.search(r'episode 2: score 0, 2 steps, .*cut\n', out)
  assert 'episode 3' not in out and 'wrote' in out


@pytest.mark.parametrize('package, name, command_line', [
    ('ple', 'ple:PixelCopter', 'pip install git'),
    ('gym_super_mario_bros', 'SuperMarioBros-1-1-v0',
     "pip install -e '.[mario]'" if sys.version_info < (3, 12)
     else 'needs Python 3.10 or 3.11'),
])
def test_a_run_whose_package_is_missing(
    trained, folder, tmp_path, monkeypatch, command, capsys, package, name,
    command_line,
):
  pytest.importorskip('matplotlib')
  config = folder / 'operative_config.gin'
  config.write_text(config.read_text().replace('toy:Corridor', name))
  shutil.copy(trained / 'metrics.csv', folder)
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(SystemExit) as error:
    command(f'--root_dir={folder}')
  assert error.value.code == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and command_line in lines[0], lines
  monkeypatch.chdir(tmp_path)
  plot._FLAGS.mark_as_parsed()
  plot.main(['plot.py', 'report', str(folder)])
  assert 'the report has no episode' in capsys.readouterr().out
  page = (tmp_path / 'report.html').read_text()
  assert html.escape(command_line) in page


def test_the_script_starts_alone(folder, tmp_path):
  """As a user calls it, elsewhere, without a display."""
  result = subprocess.run(
      [sys.executable, str(_ROOT / 'play.py'), f'--root_dir={folder}',
       '--video=out.gif'],
      cwd=tmp_path, capture_output=True, text=True, timeout=200,
      env={'PATH': '/usr/bin:/bin', 'PYTHONPATH': str(_ROOT)},
  )
  assert result.returncode == 0, result.stderr
  assert _count_frames(tmp_path / 'out.gif') == 13
  assert 'Traceback' not in result.stderr and 'wrote out.gif' in result.stdout
