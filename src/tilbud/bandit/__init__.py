"""The only room that imports Vowpal Wabbit.

vw.py         its Python package behind types        presets.py   its arguments by name, and how each tries
features.py   contexts and offers, encoded           hats.py      numbers as a regression reads them
parsed.py     offers as VW examples                  scale.py     rewards in standard deviations
regression.py VW on parsed offers, saved             judge.py     which of two regressions answers
model.py      predicts and learns                    counts.py    who was shown what how often
checkpoints/  models on disk                         scores.py    from costs and counts to probabilities
saved.py      the file of a model                    memory.py    how much a model takes
"""
