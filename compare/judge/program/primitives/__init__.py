"""What each primitive of JAX computes, in NumPy: a module for each kind of primitive, a table at the foot of each."""
