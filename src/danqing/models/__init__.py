"""Catalogue, loading, text encoding, memory residency and the built-in family."""
