"""Pages for a browser: each one file that needs nothing else, and that reaches for nothing else.

`page` is the shell that they share, `plots` and `mathml` draw what stands in them; `report` and `museum` are pages.
"""
