"""The samples that are shipped beside the built-in family, and how each was made. See `docs/samples.md`."""
