"""Two functions in, one report out: whether two derivatives agree, where they part, why, and which side is wrong."""
