"""A run's policies as SavedModels, which need no code of ours to be used."""

import pathlib
import warnings

from absl import logging
from tf_agents.policies import policy_saver


def export_policies(folder: pathlib.Path, agent) -> None:
  """Writes `greedy/` and `collect/`.

  Args:
    folder: where to; created if it does not exist.
    agent: a `TFAgent`.
  """
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)  # Pages of remarks on names.
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      for name, policy in (
          ('greedy', agent.policy), ('collect', agent.collect_policy)
      ):
        policy_saver.PolicySaver(policy, batch_size=None).save(
            str(folder / name)
        )
  finally:
    logging.set_verbosity(verbosity)
