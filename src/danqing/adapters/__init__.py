"""What is injected into a model and ejected again."""
