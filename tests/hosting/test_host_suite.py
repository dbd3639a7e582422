"""TF-Agents' own tests of `PPOAgent` and `PPOPolicy`, run against ours.

The host's module is imported and its test class subclassed; `ppo_agent` in it
is replaced by a namespace whose `PPOAgent` is ours, and `ppo_policy` likewise.
Nothing is excluded. (`ppo_utils_test` tests functions that we use as they are.)
"""

import types

from absl import flags
import tensorflow as tf
from tf_agents.agents.ppo import ppo_agent
from tf_agents.agents.ppo import ppo_agent_test
from tf_agents.agents.ppo import ppo_policy
from tf_agents.agents.ppo import ppo_policy_test

from rnd_agent import networks
from rnd_agent import rnd_ppo_agent
from rnd_agent.hosting import policy as rnd_ppo_policy

if not flags.FLAGS.is_parsed():
  flags.FLAGS(['test_host_suite'])

_OURS = types.SimpleNamespace(**vars(ppo_agent))
_OURS.PPOAgent = rnd_ppo_agent.RNDPPOAgent


class HostSuiteTest(ppo_agent_test.PPOAgentTest):
  """The host's methods, with our class in the place of its own."""

  def setUp(self):
    super().setUp()
    original = ppo_agent_test.ppo_agent
    self.addCleanup(setattr, ppo_agent_test, 'ppo_agent', original)
    ppo_agent_test.ppo_agent = _OURS


def _policy(
    time_step_spec, action_spec, actor_network, value_network,
    observation_normalizer=None, clip=True, collect=True,
    compute_value_and_advantage_in_train=False,
):
  """Our policy behind the host's constructor."""
  return rnd_ppo_policy.RNDPPOPolicy(
      time_step_spec, action_spec,
      networks.SeparateActorCritic(actor_network, value_network),
      observation_normalizer=observation_normalizer, clip=clip,
      collect=collect,
      values_in_info=not compute_value_and_advantage_in_train,
      intrinsic_value=False,
  )


class HostPolicySuiteTest(ppo_policy_test.PPOPolicyTest):
  """The host's tests of its policy, with ours in its place."""

  def setUp(self):
    super().setUp()
    original = ppo_policy_test.ppo_policy
    self.addCleanup(setattr, ppo_policy_test, 'ppo_policy', original)
    ours = types.SimpleNamespace(**vars(ppo_policy))
    ours.PPOPolicy = _policy
    ppo_policy_test.ppo_policy = ours


def test_the_suite_is_whole():
  """70 tests, as many as the host's own run has."""
  names = [n for n in dir(HostSuiteTest) if n.startswith('test')]
  assert len(names) == 70, len(names)


if __name__ == '__main__':
  tf.test.main()
