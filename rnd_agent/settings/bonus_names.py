"""The bonuses that come with the package, as gin files name them."""

NAMES = (
    'RandomNetworkDistillation', 'NovelD', 'E3B', 'EpisodicCounts',
    'LifelongCounts', 'DynamicsBonus', 'DRND', 'SumOfBonuses',
    'ProductOfBonuses',
)
