"""TF-Agents' own tests of `PPOAgent`, run against `RNDPPOAgent`.

The host's module is imported and its test class subclassed; `ppo_agent` in it
is replaced by a namespace whose `PPOAgent` is ours. Nothing is excluded.
"""

import types

from absl import flags
import tensorflow as tf
from tf_agents.agents.ppo import ppo_agent
from tf_agents.agents.ppo import ppo_agent_test

from rnd_agent import rnd_ppo_agent

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


def test_the_suite_is_whole():
  """70 tests, as many as the host's own run has."""
  names = [n for n in dir(HostSuiteTest) if n.startswith('test')]
  assert len(names) == 70, len(names)


if __name__ == '__main__':
  tf.test.main()
