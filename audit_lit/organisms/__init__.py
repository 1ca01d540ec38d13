"""Model organisms: models with something planted in their weights on purpose, and clean ones beside them."""
