"""A GPT of four layers in C and in PyTorch, each of which records two steps of AdamW, and its loss in JAX."""
