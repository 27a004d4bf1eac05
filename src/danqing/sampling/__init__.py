"""Sigma schedules, samplers as generators, guidance and noise."""
