"""A run's folder: checkpoints, metrics, progress, what survives failures."""
