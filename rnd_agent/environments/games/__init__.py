"""The games: a file for every suite, and the toys Corridor and Recall."""
