"""Reviewers and revision."""
