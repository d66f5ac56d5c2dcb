"""The supervisor on a cluster of real hosts: each its own namespaces, sshd and boot, all with one home."""
