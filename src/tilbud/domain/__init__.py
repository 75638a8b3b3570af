"""Pure rules: no IO, clock, randomness, Vowpal Wabbit or gRPC; time, random numbers and ids are arguments."""
