"""Settles due decisions, and learns settlements in sequence.

learner.py          the task that settles, learns, writes checkpoints and removes what is old
settling_lease.py   who settles                      own_settlements.py   who counts what was settled
agenda.py           which campaigns a turn looks at
replica.py          a checkpoint and all that settled since
beside.py           starts a process that learns anew     relearning.py   what that process does
"""
