"""The games: one file per suite, and the toy tasks Corridor and Recall."""
