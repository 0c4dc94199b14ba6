"""The laboratory: configs, data, tasks, training, sweeps and reports, for which the extra `train` is needed."""
