"""Every number that a run writes per iteration: one row of `METRICS` each.

metrics.csv, TensorBoard with its layout, the plots, the comparison of runs, the
report, the progress line and the tables of docs/metrics.md (`metrics_page.py`)
are made from the rows. A new metric is one row here, and one line that computes
its value: in `training/summaries.training_figures` for figures of learning, in
`runs/episodes.EpisodeWindow.statistics` for figures of episodes. A bonus
declares rows of its own, see `rows_with`. Nothing here needs TensorFlow.
"""

import dataclasses
from typing import NamedTuple, Optional, Sequence

# Number of the last episodes that means and maxima are taken over.
WINDOW = 100
# The group of a bonus's own metrics in TensorBoard.
BONUS_GROUP = 'bonus/'
# Headings of TensorBoard's tab "Custom Scalars". Four charts of one heading fit
# a window of 1280 x 800.
QUESTIONS = (
    'Is it learning, is it exploring, is it healthy?',
    'If it is not',
)
_LEARNING, _IF_NOT = range(2)


class Chart(NamedTuple):
  """A chart of the tab "Custom Scalars"; metrics with equal charts share it.

  Evaluations have the same tags, so no title may mention training alone.

  Attributes:
    question: index into `QUESTIONS`.
    place: position among the charts of the question, from 1.
    title: of the chart.
  """

  question: int
  place: int
  title: str


@dataclasses.dataclass(frozen=True)
class Metric:
  """A number that a run writes per iteration.

  Attributes:
    name: key of its value, and its column of metrics.csv.
    since: the version of metrics.csv that first had the column. A file of an
      older version does not get it; the columns of version 1 are never
      missing. A new column stands after all others, with the next number.
    column: whether metrics.csv has it; if not, only TensorBoard does.
    tag: TensorBoard's. None: no tag; in a bonus's own row `bonus/<name>`.
    histogram: whether its value is a tensor, shown as a histogram.
    title: of plots; its name if empty. `{places}` stands for 'rooms' or
      'places', `{episodes}` for the episodes that a score is taken over.
    whole: whether it is a count, whose axis has whole numbers.
    panel: its position among the panels that plot.py draws by default, from 1;
      None if it is not among them.
    chart: of TensorBoard's tab "Custom Scalars"; None if it is in no chart.
    progress: format of its part of the progress line; '' if it has none.
      `{value}` stands for the number, `{number}` for the number rounded for
      people, `{places}` for 'rooms' or 'places'.
    result: whether it shows how far a run got: such metrics are in the
      comparison, the report and TensorBoard's table of hyperparameters.
    unit: this and the following are columns of docs/metrics.md.
    meaning: what it is and how it is computed.
    healthy: its values in the first million steps of a healthy run.
    measured: its values in a short run of Montezuma's Revenge.
    empty: when its cell is empty; '' if never.
  """

  name: str
  since: int = 2
  column: bool = True
  tag: Optional[str] = None
  histogram: bool = False
  title: str = ''
  whole: bool = False
  panel: Optional[int] = None
  chart: Optional[Chart] = None
  progress: str = ''
  result: bool = False
  unit: str = ''
  meaning: str = ''
  healthy: str = ''
  measured: str = ''
  empty: str = ''

  def titled(
      self,
      places: str = 'places',
      episodes: str = f'the last {WINDOW} episodes',
  ) -> str:
    """The title with these words for places and episodes filled in."""
    return (self.title or self.name).format(places=places, episodes=episodes)


_NO_EPISODE = 'no episode has finished yet'
_NO_ROOMS = "the game's rooms are unknown"
_NOT_MARIO = (
    f"{_NO_EPISODE}, or it is not Super Mario (environments of your own: "
    "`info['x']`)"
)
_NO_BONUS = '`RNDConfig.intrinsic_coefficient = 0`: no bonus'
_CONSTANT_RETURNS = (
    'the returns of this rollout do not vary (but for rounding): nothing to '
    'explain'
)

# The rows that are columns stand in the order of metrics.csv.
METRICS = (
    Metric(
        'iteration', since=1, title='iterations',
        unit='rollouts per environment', meaning='counts from 1',
    ),
    Metric(
        'env_steps', since=1, title='agent steps', unit='agent steps',
        meaning="sum of the rollouts' real steps; TensorBoard's axis",
        healthy='+ 16 384 per row at 128 x 128',
    ),
    Metric(
        'frames', since=1, tag='time/frames', title='frames of the game',
        unit='frames', meaning='`env_steps` x frames per step',
        healthy='4 x `env_steps`',
    ),
    Metric(
        'wall_time_s', since=1, tag='time/wall_time_s',
        title='seconds of training', unit='s',
        meaning='time of all iterations, from collecting to learning, across '
        'resumes; without the random agent, evaluations, checkpoints, writing',
    ),
    Metric(
        'steps_per_second', since=1, tag='time/steps_per_second',
        title='agent steps per second', panel=11,
        chart=Chart(_IF_NOT, 6, 'agent steps per second'),
        progress='{value:,.0f} steps/s',
        unit='agent steps / s',
        meaning="this iteration's steps / its time, as in `wall_time_s`",
        healthy='constant; the first one is low (compilation)',
    ),
    Metric(
        'episodes', since=1, tag='return/episodes', title='episodes',
        whole=True, unit='episodes',
        meaning='finished in training since the run began', healthy='grows',
        measured='0 to 40',
    ),
    Metric(
        'episode_return_mean', since=1, tag='return/episode_return_mean',
        title='score, mean of {episodes}', panel=1,
        chart=Chart(_LEARNING, 1, 'score, mean and best'),
        progress='return {number}', result=True,
        unit='game points', meaning=f'mean of the last {WINDOW} episodes',
        healthy='0 for a long time: see below', measured='0', empty=_NO_EPISODE,
    ),
    Metric(
        'episode_return_max', since=1, tag='return/episode_return_max',
        title='score, best of {episodes}',
        chart=Chart(_LEARNING, 1, 'score, mean and best'), result=True,
        unit='game points',
        meaning=f'maximum of the **last {WINDOW}** episodes, not of the run',
        healthy='0, now and then 100 (the key)', measured='0',
        empty=_NO_EPISODE,
    ),
    Metric(
        'episode_length_mean', since=1, tag='return/episode_length_mean',
        title='length of episodes, agent steps', unit='agent steps',
        meaning=f'mean of the last {WINDOW} episodes; limit 4500',
        healthy='some hundred', measured='350 to 490', empty=_NO_EPISODE,
    ),
    Metric(
        'rooms_mean', since=1, tag='explore/rooms_mean',
        title='{places} per episode',
        chart=Chart(_IF_NOT, 4, 'rooms or places per episode'),
        unit='rooms per episode',
        meaning=f'mean over the last {WINDOW} episodes of the distinct rooms '
        'each visited, its start included',
        healthy='1, then a little more', measured='1',
        empty=f'{_NO_EPISODE}, or {_NO_ROOMS}',
    ),
    Metric(
        'rooms_discovered', since=1, tag='explore/rooms_discovered',
        title='{places} discovered', whole=True, panel=2,
        chart=Chart(_LEARNING, 2, 'rooms or places discovered'),
        progress='{places} {number}', result=True,
        unit='rooms',
        meaning='distinct rooms in training since the run began, in unfinished '
        'episodes too; across resumes',
        healthy='1 or 2', measured='1', empty=_NO_ROOMS,
    ),
    Metric(
        'furthest_x_mean', since=1, tag='explore/furthest_x_mean',
        title='furthest x of an episode, pixels', unit='pixels',
        meaning=f'mean over the last {WINDOW} episodes of the furthest that '
        'each got to the right in a level (Super Mario)',
        healthy='grows', empty=_NOT_MARIO,
    ),
    Metric(
        'furthest_x_max', since=1, tag='explore/furthest_x_max',
        title='furthest x, pixels', whole=True, panel=3,
        chart=Chart(_IF_NOT, 5, 'furthest x in a level'),
        progress='furthest x {number}', result=True,
        unit='pixels',
        meaning='the furthest of all finished episodes since the run began, '
        'across resumes',
        healthy='grows', empty=_NOT_MARIO,
    ),
    Metric(
        'intrinsic_reward_mean', since=1, tag='rnd/intrinsic_reward_mean',
        title='intrinsic reward', panel=4,
        chart=Chart(_LEARNING, 3, 'intrinsic reward'),
        # Three digits, so that the line of a long run fits 80 columns.
        progress='bonus {value:.3g}',
        unit='std of intrinsic returns',
        meaning='over steps, the **normalized** bonus, which the agent is '
        'trained on',
        healthy='falls within a few iterations, then positive, with bumps',
        measured='.040, then .020 to .024', empty=_NO_BONUS,
    ),
    Metric(
        'intrinsic_reward_std', since=1, tag='rnd/intrinsic_reward_std',
        title='standard deviation of the intrinsic reward', unit='the same',
        meaning='standard deviation over the same steps',
        healthy='about half the mean; grows when a few steps are new',
        measured='.023, then .011', empty=_NO_BONUS,
    ),
    Metric(
        'loss_policy', since=1, tag='ppo/loss_policy',
        title='loss of the policy', unit='advantage',
        meaning='over updates, clipped surrogate, to be minimized; advantages '
        'are not normalized',
        healthy='negative early (V_int starts at 0, so advantages are '
        'positive), then towards 0',
        measured='-.57 to -.07',
    ),
    Metric(
        'loss_value_ext', since=1, tag='ppo/loss_value_ext',
        title='loss of V_ext', unit='squared clipped return',
        meaning='over updates, 0.5 x squared error of V_ext',
        healthy='1e-5 and below until a reward; then spikes',
        measured='1e-7 to 1e-5',
    ),
    Metric(
        'loss_value_int', since=1, tag='rnd/loss_value_int',
        title='loss of V_int', panel=9, unit='squared intrinsic return',
        meaning='over updates, 0.5 x squared error of V_int',
        healthy='falls by a factor of 10 within ten iterations; bumps with new '
        'rooms',
        measured='.14 to .004', empty=_NO_BONUS,
    ),
    Metric(
        'loss_predictor', since=1, tag='rnd/loss_predictor',
        title='loss of the predictor', panel=8,
        chart=Chart(_IF_NOT, 3, 'loss of the predictor'), unit='raw bonus',
        meaning='over updates, mean squared error over 512 features of the '
        'steps that train the predictor; **not** divided by `rnd/return_std`; '
        'observations normalized with updated statistics',
        healthy='falls', measured='.53 to .26',
        empty=f'{_NO_BONUS}; or a bonus that is not trained',
    ),
    Metric(
        'entropy', since=1, tag='ppo/entropy',
        title='entropy of the policy, nats', panel=5,
        chart=Chart(_LEARNING, 4, 'entropy of the policy'), unit='nats',
        meaning='over updates, entropy of the policy',
        healthy='from ln 18 = 2.890 downwards, slowly',
        measured='2.888 to 2.798',
    ),
    Metric(
        'approx_kl', since=1, tag='ppo/approx_kl',
        title='KL of an update, nats', panel=10, unit='nats',
        meaning='over updates, KL(old, new) as (rho - 1) - log rho, never '
        'negative',
        healthy='.001 to .02', measured='.001 to .003',
    ),
    Metric(
        'clip_fraction', since=1, tag='ppo/clip_fraction',
        title='share of clipped ratios',
        chart=Chart(_IF_NOT, 2, 'share of clipped ratios'), unit='share',
        meaning='over updates, share of steps whose ratio is outside '
        '[0.9, 1.1]',
        healthy='.01 to .3', measured='.03 to .20',
    ),
    Metric(
        'explained_variance_ext', since=1, tag='ppo/explained_variance_ext',
        title='explained variance of V_ext', panel=7, unit='-',
        meaning='1 - Var(R_ext - V_ext) / Var(R_ext) over the rollout\'s real '
        'steps, V at collection',
        healthy='noise, often far below 0, until rewards are seen',
        measured='-3.2 to -.4', empty=_CONSTANT_RETURNS,
    ),
    Metric(
        'explained_variance_int', since=1, tag='rnd/explained_variance_int',
        title='explained variance of V_int', panel=6,
        chart=Chart(
            _IF_NOT, 1, 'how much of the intrinsic returns V_int explains'
        ),
        unit='-', meaning='the same for R_int, V_int',
        healthy='from 0 up, to .5 - .99 within some hundred iterations',
        measured='.000 to .29', empty=f'{_NO_BONUS}; or {_CONSTANT_RETURNS}',
    ),
    Metric(
        'environment_restarts', since=1, tag='time/environment_restarts',
        title='restarts of the environments', whole=True, unit='count',
        meaning='number of times that all environments were started again '
        'after a worker died, hung or raised, since the run began',
        healthy='0', measured='0',
    ),
    Metric(
        'episodes_cut', since=2, tag='time/episodes_cut', title='episodes cut',
        whole=True, unit='count',
        meaning='training episodes that were truncated because the state of '
        'their environment could not be restored after a restart or resume; '
        'since the run began',
        healthy='0', measured='0',
    ),
    Metric(
        'learning_rate', since=3, tag='ppo/learning_rate',
        title='learning rate', unit='-',
        meaning='of policy, and of values and predictor where they have none '
        'of their own, in this iteration; a schedule changes it',
        healthy='1e-4', empty='an optimizer of your own without one',
    ),
    Metric(
        'extrinsic_coefficient', since=3, tag='rnd/extrinsic_coefficient',
        title='extrinsic coefficient', unit='-',
        meaning='factor of A_ext in this iteration; a schedule changes it',
        healthy='2',
    ),
    Metric(
        'intrinsic_coefficient', since=3, tag='rnd/intrinsic_coefficient',
        title='intrinsic coefficient', unit='-',
        meaning='factor of A_int in this iteration; a schedule changes it',
        healthy='1',
    ),
    Metric(
        'steps_per_second_per_worker', since=4,
        tag='time/steps_per_second_per_worker',
        title='agent steps per second and worker',
        progress='{value:,.0f} steps/s per worker', unit='agent steps / s',
        meaning='`steps_per_second` / number of workers; of each worker '
        'TensorBoard has `workers/collect_steps_per_second_<number>`, the '
        'speed of its collecting: the slowest holds up all',
        healthy='as `steps_per_second`', empty='one process trains',
    ),
    # Add new columns here. The metrics below are not in metrics.csv.
    Metric(
        'hours', column=False, title='hours of training', unit='h',
        meaning='`wall_time_s` in plots and comparisons',
    ),
    Metric(
        'collect_s', column=False, tag='time/collect_s', unit='s',
        meaning='time of policy and environments for T steps',
    ),
    Metric(
        'bonus_s', column=False, tag='time/bonus_s', unit='s',
        meaning='time to compute the raw bonuses of the rollout',
    ),
    Metric(
        'statistics_s', column=False, tag='time/statistics_s', unit='s',
        meaning='time to update both running statistics and normalize rewards',
    ),
    Metric(
        'targets_s', column=False, tag='time/targets_s', unit='s',
        meaning='time to compute advantages and returns',
    ),
    Metric(
        'learn_s', column=False, tag='time/learn_s', unit='s',
        meaning='time for target features and epochs x minibatches',
    ),
    Metric(
        'gradient_norm', column=False, tag='ppo/gradient_norm', unit='-',
        meaning="global norm of a minibatch's gradient before clipping, mean "
        'over updates',
    ),
    Metric(
        'bonus_mean', column=False, tag='rnd/bonus_mean',
        unit='mean squared error',
        meaning='over steps, the bonus before normalization: its absolute '
        'size, large for new observations',
    ),
    Metric(
        'return_std', column=False, tag='rnd/return_std',
        unit='mean squared error',
        meaning='standard deviation that normalization divides bonuses by; '
        'changes slowly',
    ),
    Metric(
        'advantages', column=False, tag='ppo/advantages', histogram=True,
        unit='histogram',
        meaning='combined advantages of the rollout, 2 A_ext + A_int, which '
        'the policy is trained on',
    ),
    Metric(
        'intrinsic_rewards', column=False, tag='rnd/intrinsic_rewards',
        histogram=True, unit='histogram',
        meaning='normalized bonuses of the rollout; absent without a bonus',
    ),
)


def columns(metrics: Sequence[Metric] = METRICS) -> tuple[str, ...]:
  """Names of the metrics that are columns of metrics.csv, in order."""
  return tuple(metric.name for metric in metrics if metric.column)


COLUMNS = columns()
BY_NAME = {metric.name: metric for metric in METRICS}
# Names of the panels that plot.py draws by default, and of the results.
PANELS = tuple(
    metric.name for metric in sorted(
        (m for m in METRICS if m.panel), key=lambda m: m.panel
    )
)
RESULTS = tuple(metric.name for metric in METRICS if metric.result)


def charts(metrics: Sequence[Metric] = METRICS) -> dict[Chart, list[str]]:
  """Tags by chart of TensorBoard's tab "Custom Scalars", in order."""
  tags = {metric.chart: [] for metric in metrics if metric.chart}
  for metric in metrics:
    if metric.chart:
      tags[metric.chart].append(metric.tag)
  return dict(sorted(tags.items()))


def collect_speed(worker: int) -> str:
  """Name of the metric that says how fast a worker collects."""
  return f'collect_steps_per_second_{worker}'


def rows_with(bonus, workers: int = 1) -> tuple[Metric, ...]:
  """Appends the rows of a bonus and of several workers to the project's.

  Args:
    bonus: a `Bonus`, or None. A row of its `own_metrics` without a tag gets
      `bonus/<name>`; its column, if any, stands at the end of metrics.csv. A
      number of its `metrics()` without a row gets one without a column.
    workers: how many train together; each of several has a row.

  Returns:
    All rows.

  Raises:
    ValueError: a name is not an identifier, or a name or tag is in use.
  """
  rows = list(METRICS)
  if workers > 1:
    rows += [
        Metric(
            collect_speed(n), column=False, tag=f'workers/{collect_speed(n)}'
        ) for n in range(workers)
    ]
  if bonus is None:
    return tuple(rows)
  declared = {row.name: row for row in bonus.own_metrics}
  others = {name: Metric(name, column=False) for name in bonus.metrics()}
  for row in (others | declared).values():
    if not row.name.isidentifier():
      raise ValueError(
          f'{row.name!r} is not a name for a metric: choose letters, digits '
          'and _'
      )
    if row.tag is None:
      row = dataclasses.replace(row, tag=f'{BONUS_GROUP}{row.name}')
    if any(row.name == r.name or row.tag == r.tag for r in rows):
      raise ValueError(
          f'a metric {row.name} or a tag {row.tag} exists already: choose '
          "another name and tag for the bonus's metric"
      )
    rows.append(dataclasses.replace(row, since=max(row.since, 2)))
  return tuple(rows)
