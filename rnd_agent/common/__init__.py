"""Helpers for all folders: text, parameters, films, the machine."""
