"""All parameters of the configs, by the names that gin files use."""

from __future__ import annotations

from typing import Optional

from rnd_agent import config
from rnd_agent.common import parameters
from rnd_agent.environments import environment_config

# Config classes by the name before the dot.
CONFIGS = {
    'train_eval': config.TrainConfig,
    'PPOConfig': config.PPOConfig,
    'RNDConfig': config.RNDConfig,
    'ComputeConfig': config.ComputeConfig,
    'EnvironmentConfig': environment_config.EnvironmentConfig,
}
# Today's names by former ones.
FORMER_NAMES = {
    f'{owner}.{known.former_name}': f'{owner}.{name}'
    for owner, config_class in CONFIGS.items()
    for name, known in parameters.parameters_of(config_class).items()
    if known.former_name
}


def find(name: str) -> Optional[parameters.Parameter]:
  """The declaration of a parameter such as 'PPOConfig.gae_lambda', or None."""
  owner, _, field = name.rpartition('.')
  if owner not in CONFIGS:
    return None
  return parameters.parameters_of(CONFIGS[owner]).get(field)
