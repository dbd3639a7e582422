"""Intrinsic rewards: what they are made of, and how they are normalized."""
