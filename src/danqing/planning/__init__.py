"""Request and catalogue in, Plan out: pure functions."""
