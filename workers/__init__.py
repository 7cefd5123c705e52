"""What runs inside a function: the handler, the model and its weights, and training.

Everything here but `workers.training` travels in the function image. It imports
`fmi` and nothing else of this project.
"""
