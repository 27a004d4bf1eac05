"""The page on which a client reviews: our own HTML, CSS and JavaScript, without Gradio."""
