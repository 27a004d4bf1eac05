"""Catalogue, loading, text encoding, memory residency and the built-in family.

Importing this package loads no torch: the front uses `danqing.models.catalog` alone.
"""
