"""Whole rollouts by the whole service: minutes each, run by `make rollouts`."""
