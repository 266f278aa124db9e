"""After a disagreement: the first wrong quantity, its cause, and the side at fault."""
