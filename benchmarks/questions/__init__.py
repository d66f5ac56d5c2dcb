"""One module a question. Its docstring begins with the question; `measure(quick)` answers it."""
