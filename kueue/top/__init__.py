"""`kueue top`: jobs, workers and licences on a live screen.

`filtering`, `rows`, `window`, `board` and `columns` are pure: what is shown, and what has to be asked for.
`feed` asks and listens, the other modules are the terminal's (Textual).
"""
