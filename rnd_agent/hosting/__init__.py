"""What it takes to live inside TF-Agents' `PPOAgent`."""
