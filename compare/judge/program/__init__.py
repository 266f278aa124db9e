"""JAX programs as lists of elementary operations: traced once, evaluated operation by operation."""
