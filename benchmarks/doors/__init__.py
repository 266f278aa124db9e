"""Cases for each public check: derivatives of published libraries, and faults in them."""
