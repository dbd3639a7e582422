"""A run's folder: checkpoints, metrics, progress, and what survives failures."""
