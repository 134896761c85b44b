"""The search: what there is to try, what was tried, and what comes out."""
