"""A run's folder: checkpoints, metrics, progress; writing and safe reading."""
