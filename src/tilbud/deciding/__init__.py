"""The way of a decision.

pipeline.py          the way itself: read it first
request_context.py   who asks, what may be used, which offers the rules leave
frequency.py         caps, and the last decision served again
policies.py          variant, scores, draw, or why the fallback
builder.py           the record of it     ids.py   ids of our own     answer_space.py   the bytes of a batch
"""
