"""Settles due decisions, and learns settlements in sequence.

learner.py          the task that settles and learns, and sees to the rest
settling_lease.py   who settles                      own_settlements.py   who counts what was settled
settling.py         ends what is due
checkpoint_schedule.py   when models are written     forgetting.py        what is forgotten when it is old
agenda.py           which campaigns a turn looks at
replica.py          a checkpoint and all that settled since
beside.py           starts a process that learns anew     relearning.py   what that process does
"""
