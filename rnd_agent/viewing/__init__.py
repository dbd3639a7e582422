"""See what it learned: play, films, curves, maps, reports."""
