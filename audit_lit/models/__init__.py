"""The model under audit: loading it, reading its activations, and generating its replies."""
