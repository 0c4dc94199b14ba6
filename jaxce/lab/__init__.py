"""The laboratory: configs, data, tasks, training, sweeps and reports. It needs the extra `train`."""
