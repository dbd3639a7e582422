"""The command lines: training, playing, drawing."""
