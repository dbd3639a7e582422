"""Rollouts, returns, losses, and the update made of them."""
