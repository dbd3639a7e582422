"""What a config says: strict gin, checks, and what changed since."""
