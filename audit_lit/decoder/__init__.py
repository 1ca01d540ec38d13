"""The LatentQA decoder: its configuration, its files, and how it generates and scores answers."""
