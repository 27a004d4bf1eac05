"""Durable jobs, immutable Records, content-addressed pictures."""
