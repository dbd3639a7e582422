"""The loop, and what is built, saved and shown around it."""
