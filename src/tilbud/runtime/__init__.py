"""The rooms wired into processes.

application.py   wires all of it: read it first     settings.py           what can be set
process.py       the life of one process            heartbeat.py          how it is, several times a second
supervisor.py, worker.py   several processes        reserved_address.py   the address they share
data_directory.py   what lies where, and its lock   clock.py              the clocks of a process
serving_ledger.py   the ledger they open            backup.py             a data directory copied
memory.py        memory given back                  garbage.py            collections of garbage kept short
serving_line.py  what the log says of it
"""
