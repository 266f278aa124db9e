"""The work of `backproof verify`: compares the gradients and the training of a network by hand and by JAX."""
