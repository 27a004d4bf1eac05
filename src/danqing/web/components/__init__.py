"""Components of our own on `gr.HTML`."""
