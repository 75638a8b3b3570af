"""The only room that imports Vowpal Wabbit: features, model, presets, checkpoints."""
