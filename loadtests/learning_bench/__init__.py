"""How well the service learns, on worlds whose truth is known and on logs of real ones.

worlds.py      what happens in a world          cells.py       which worlds there are
numbers.py     worlds that turn on numbers      newcomers.py   worlds in which something begins late
service.py     the service's learner            references.py  what it is compared with
runs.py        one learner in one world         results.py     what was found, in a file
report.py      tables and the picture           logs.py        real data
costs.py       time and memory
"""
