"""The trio in virtual time: the real server, sessions, cores and client over a simulated network and machines.

What is real: everything of the server between an open journal and its links (engine, submissions, sessions,
watches, core), the worker's core and its session with the server, the client with its resubmission, the
framing and the messages. What is stood in for: time (`world`), the network (`network`), the journal's disk
(`disk`), the machines with their processes and the keeper (`machine`, `keeper`), the agent's shell (`agent`).

One seed is one run: it draws a schedule of what people do and what goes wrong (`schedule`), every delay, and
every instruction at which something dies. `truth` knows what was acknowledged and what really ran where, and
compares at each step; `mutants` breaks the product on purpose to show that the net catches fish.

    python -m tests.simulation --seed 17             replay one seed, with the job's story if it fails
    python -m tests.simulation --seeds 1-1000        a campaign; --record FILE appends its figures and resumes
"""
