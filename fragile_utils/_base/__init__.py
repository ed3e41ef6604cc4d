"""The ground that every room stands on: what is asked of arguments and files, and how tensors, memory and seeds behave.

Arguments are checked by ``checks``, JSON by ``schema``, and functions of the reader's own are found by ``code``; files
are written by ``files``. The rest is about computing: ``devices``, ``memory``, ``precision``, ``seeds``, and tensors.
"""
