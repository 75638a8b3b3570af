"""The only room that imports Vowpal Wabbit.

vw.py         its Python package behind types     features.py   contexts and offers in its language
model.py      predicts and learns                 presets.py    its arguments by name
checkpoints/  models on disk
"""
