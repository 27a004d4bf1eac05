"""Picture to control map."""
