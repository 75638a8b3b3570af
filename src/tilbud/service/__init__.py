"""The use cases beside deciding. No gRPC.

outcomes.py    what happened after a decision     customers.py   profiles, events, rights
pauses.py      offers and campaigns paused
"""
