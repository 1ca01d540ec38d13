"""Train a decoder by Latent Interpretation Tuning (LatentQA, arXiv 2412.08686)."""
