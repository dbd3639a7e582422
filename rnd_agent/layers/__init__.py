"""Layers and recurrent cells of the networks."""
