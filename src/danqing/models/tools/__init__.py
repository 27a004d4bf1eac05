"""Work on files of weights, a tensor at a time: merge, convert, prune, bake in a VAE, extract a LoRA."""
