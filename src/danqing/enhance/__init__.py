"""Upscaling, restoration, detailing, cut-out."""
