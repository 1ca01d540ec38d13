"""One dialog: answers read out of activations, beside the controls that show how far to believe them."""
