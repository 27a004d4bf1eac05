"""Components of our own on `gr.HTML`, and Gradio's with our validation."""
