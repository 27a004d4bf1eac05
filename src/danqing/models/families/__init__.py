"""One file per family: how to encode text, what one denoiser call is in σ terms, encode and decode pictures."""
