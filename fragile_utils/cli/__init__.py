"""The commands of ``fragile``, one module each: a parser of its options, and what it runs."""
