"""The classes that come with the package, as gin files name them."""

BONUSES = (
    'RandomNetworkDistillation', 'NovelD', 'E3B', 'EpisodicCounts',
    'LifelongCounts', 'DynamicsBonus', 'DRND', 'SumOfBonuses',
    'ProductOfBonuses',
)
CELLS = ('GRUCell', 'LSTMCell', 'DNCCell')
ENCODERS = ('RandomEncoder',)
# A change of any of their parameters makes another network or bonus.
NETWORKS = (
    'ActorCriticNetwork', *BONUSES, 'RNDNetwork', *ENCODERS, *CELLS
)
