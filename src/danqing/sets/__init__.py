"""Training sets on disk: importing, captions, checks, buckets. No torch."""
