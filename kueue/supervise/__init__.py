"""The supervisor `kueue_restart_workers`: keeps a worker alive on every machine of a list, over ssh.

`hosts.py` says which machines, `remote.py` is sent to them and looks, `plan.py` decides (pure), `perform.py` does
it over `ssh.py`, `rounds.py` repeats it, `table.py` shows it.
"""
