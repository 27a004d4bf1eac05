"""Prompt grammar, schedules, styles, wildcards and infotext; no torch."""
