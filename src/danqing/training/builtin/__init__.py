"""Training of the built-in model family: data, tokenizer, VAE, UNet with text encoder, export.

Run it with `python -m danqing.training.builtin --config FILE --out DIR`.
"""
