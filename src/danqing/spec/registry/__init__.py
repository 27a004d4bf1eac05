"""What the front needs to name: samplers, schedules, model families, as torch-free data."""
