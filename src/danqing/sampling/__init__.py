"""Sampling: from noise to latents. Schedules, samplers, guidance and seeded noise, with no model in sight."""
