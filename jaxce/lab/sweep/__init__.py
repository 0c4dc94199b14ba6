"""Sweeps: many settings of one config, those that differ in numbers alone in one compiled program."""
