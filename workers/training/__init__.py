"""Training of the model. Not part of the function image."""
